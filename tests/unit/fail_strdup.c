/*
 * fail_strdup.c - goes with fail_alloc.h: strdup and strndup allocate within the
 * C library, where nothing is wrapped. These use malloc, which is. One thread.
 */
#include <stdlib.h>
#include <string.h>

char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t bytes);

char *__wrap_strndup(const char *text, size_t bytes)
{
	size_t length = strnlen(text, bytes);
	char *copy = malloc(length + 1);

	if (!copy)
		return NULL;
	memcpy(copy, text, length);
	copy[length] = '\0';
	return copy;
}

char *__wrap_strdup(const char *text)
{
	return __wrap_strndup(text, strlen(text));
}
