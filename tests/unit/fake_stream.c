/*
 * fake_stream.c - see fake_stream.h. On the engine's thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_stream.h"

#define MOST_PINS 16

struct copy {
	struct copy *next;
	uint8_t *to;         /* NULL: an upload, whose source must not change */
	const uint8_t *from; /* of an upload */
	size_t bytes;
	long number;
	uint8_t data[];
};
static struct copy *copies;
static long copies_made;

static struct pin {
	const uint8_t *base;
	size_t bytes;
} pins[MOST_PINS];

static bool inside(const struct pin *pin, const uint8_t *at, size_t bytes)
{
	return pin->base && at >= pin->base && at + bytes <= pin->base + pin->bytes;
}

void fake_stream_pin(void *at, size_t bytes)
{
	for (size_t i = 0; i < MOST_PINS; i++) {
		if (pins[i].base)
			continue;
		pins[i] = (struct pin){at, bytes};
		return;
	}
	fail_msg("more than %d pieces of memory are pinned", MOST_PINS);
}

void fake_stream_unpin(void *at)
{
	for (size_t i = 0; i < MOST_PINS; i++) {
		if (pins[i].base != at)
			continue;
		for (const struct copy *copy = copies; copy; copy = copy->next)
			assert_false(inside(&pins[i], copy->to ? copy->to : copy->from, 0));
		pins[i] = (struct pin){0};
		return;
	}
	fail_msg("memory that is not pinned is given back");
}

bool fake_stream_pinned(const void *at, size_t bytes)
{
	for (size_t i = 0; i < MOST_PINS; i++)
		if (inside(&pins[i], at, bytes))
			return true;
	return false;
}

void fake_stream_copy(void *to, const void *from, size_t bytes)
{
	struct copy *copy = malloc(sizeof(*copy) + bytes), **at = &copies;
	assert_non_null(copy);
	*copy = (struct copy){.to = to, .from = from, .bytes = bytes, .number = ++copies_made};
	memcpy(copy->data, from, bytes);
	while (*at)
		at = &(*at)->next;
	*at = copy;
}

long fake_stream_number(void)
{
	return copies_made;
}

void fake_stream_complete(long number)
{
	while (copies && copies->number <= number) {
		struct copy *copy = copies;
		copies = copy->next;
		if (copy->to)
			memcpy(copy->to, copy->data, copy->bytes);
		else
			assert_memory_equal(copy->from, copy->data, copy->bytes);
		free(copy);
	}
}

bool fake_stream_idle(void)
{
	return !copies;
}

void fake_stream_drop(void)
{
	while (copies) {
		struct copy *copy = copies;
		copies = copy->next;
		free(copy);
	}
}

void fake_stream_reset(void)
{
	fake_stream_drop();
	copies_made = 0;
	memset(pins, 0, sizeof(pins));
}
