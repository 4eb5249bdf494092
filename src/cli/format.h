/*
 * format.h - numbers as people read them. Each writes at most
 * VAC_TEXT_BYTES into to and returns it. Any thread.
 */
#ifndef VAC_CLI_FORMAT_H
#define VAC_CLI_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define VAC_TEXT_BYTES 32

/* "512 B", "4.0 KiB", "90.9 MiB", "512 MiB", "1.5 GiB"; powers of 1024. */
char *vac_format_bytes(char to[VAC_TEXT_BYTES], uint64_t bytes);
/* The same with "-" in front when negative, "+" when positive and signs is set. */
char *vac_format_signed_bytes(char to[VAC_TEXT_BYTES], int64_t bytes, int signs);
/* "850 ms", "12.3 s", "4m 05s", "2h 13m", "3d 4h". */
char *vac_format_ms(char to[VAC_TEXT_BYTES], int64_t ms);
/* "950", "22.7M", "1.3B"; powers of 1000, as parameters are counted. */
char *vac_format_count(char to[VAC_TEXT_BYTES], uint64_t count);
/* "47382528" -> "47,382,528". */
char *vac_format_exact(char to[VAC_TEXT_BYTES], uint64_t number);

/* Columns that UTF-8 text takes on a terminal: 2 for wide East Asian
 * characters, 0 for combining ones. */
size_t vac_text_columns(const char *text);
/* Copies at most columns columns of text; what is too long loses its middle:
 * "sentence-tra...L6-v2". Returns a new string (caller frees), NULL when out
 * of memory. Control characters, which could steer the terminal, become '?'. */
char *vac_text_fit(const char *text, size_t columns);

#endif
