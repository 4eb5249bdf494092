/*
 * duration.c - "10m", "1h30m", "45", "1.5s", "-1", "0" as Go and Ollama write
 * durations. Any thread; no state.
 */
#include "api/common.h"

#include <errno.h>
#include <string.h>

/* Longest first where one is the start of another. */
static const struct {
	const char *name;
	double ms;
} units[] = {
	{"ns", 1e-6},  {"us", 1e-3}, {"\xc2\xb5s", 1e-3}, {"\xce\xbcs", 1e-3}, {"ms", 1.0},
	{"s", 1000.0}, {"m", 60e3},  {"h", 3600e3},       {"d", 86400e3},
};

/* Digits with at most one point, and at least one digit. Not strtod: that one
 * reads exponents, hexadecimals, "inf" and the locale's decimal point. */
static int read_number(const char **text, double *out)
{
	const char *at = *text;
	double value = 0, place = 1;
	int digits = 0;

	for (; *at >= '0' && *at <= '9'; at++, digits++)
		value = value * 10 + (*at - '0');
	if (*at == '.') {
		for (at++; *at >= '0' && *at <= '9'; at++, digits++) {
			place /= 10;
			value += (*at - '0') * place;
		}
	}
	if (digits == 0)
		return -EINVAL;
	*text = at;
	*out = value;
	return 0;
}

static int read_unit(const char **text, double *ms)
{
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(units[i].name);

		if (strncmp(*text, units[i].name, n) == 0) {
			*text += n;
			*ms = units[i].ms;
			return 0;
		}
	}
	return -EINVAL;
}

/* The sum of milliseconds as the caller gets it: something is never nothing. */
static int64_t settle(bool negative, double total_ms)
{
	if ((negative && total_ms > 0) || !(total_ms < (double)VAC_FOREVER_MS))
		return -1;
	if (total_ms > 0 && total_ms < 1)
		return 1;
	return (int64_t)(total_ms + 0.5);
}

int vac_parse_duration_ms(const char *text, int64_t *ms)
{
	double total = 0, value, unit;
	bool negative = *text == '-';

	if (*text == '-' || *text == '+')
		text++;
	if (read_number(&text, &value) != 0)
		return -EINVAL;
	if (*text == '\0') { /* a number alone: seconds */
		*ms = settle(negative, value * 1000);
		return 0;
	}
	for (;;) {
		if (read_unit(&text, &unit) != 0)
			return -EINVAL;
		total += value * unit;
		if (*text == '\0')
			break;
		if (read_number(&text, &value) != 0)
			return -EINVAL;
	}
	*ms = settle(negative, total);
	return 0;
}
