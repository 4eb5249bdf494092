/*
 * since.c - "1h" ago, or a moment as RFC 3339 writes it:
 * 2026-01-31T12:00:00.5+01:00. Any thread; no state.
 */
#include "api/api.h"

#include <errno.h>
#include <stdbool.h>

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S  INT64_C(1000000000)

/* Exactly so many digits. */
static bool read_digits(const char **text, int digits, int *out)
{
	*out = 0;
	for (; digits > 0; digits--, ++*text) {
		if (**text < '0' || **text > '9')
			return false;
		*out = *out * 10 + (**text - '0');
	}
	return true;
}

static bool read_char(const char **text, char c)
{
	if (**text != c)
		return false;
	++*text;
	return true;
}

static int days_of(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap);
}

/* Days since 1970 of a date since 1970. */
static int64_t days_since_1970(int year, int month, int day)
{
	int64_t before = year - 1, days;

	days = before * 365 + before / 4 - before / 100 + before / 400 - 719162;
	for (int i = 1; i < month; i++)
		days += days_of(year, i);
	return days + day - 1;
}

static bool read_date(const char **text, int64_t *days)
{
	int year, month, day;

	if (!read_digits(text, 4, &year) || !read_char(text, '-') ||
	    !read_digits(text, 2, &month) || !read_char(text, '-') || !read_digits(text, 2, &day))
		return false;
	/* Nanoseconds since 1970 fit 64 bits until 2262. */
	if (year < 1970 || year > 2261 || month < 1 || month > 12 || day < 1 ||
	    day > days_of(year, month))
		return false;
	*days = days_since_1970(year, month, day);
	return true;
}

static bool read_clock(const char **text, int64_t *ns)
{
	int hour, minute, second;
	int64_t place = NS_PER_S;

	if (!read_digits(text, 2, &hour) || !read_char(text, ':') ||
	    !read_digits(text, 2, &minute) || !read_char(text, ':') ||
	    !read_digits(text, 2, &second))
		return false;
	if (hour > 23 || minute > 59 || second > 60) /* 60: a leap second */
		return false;
	*ns = ((int64_t)hour * 3600 + minute * 60 + second) * NS_PER_S;
	if (!read_char(text, '.'))
		return true;
	if (**text < '0' || **text > '9')
		return false;
	for (; **text >= '0' && **text <= '9'; ++*text) {
		place /= 10;
		*ns += (**text - '0') * place;
	}
	return true;
}

/* "Z", "+01:00"; what must be taken from the clock to get UTC. */
static bool read_zone(const char **text, int64_t *ns)
{
	int sign = **text == '-' ? -1 : 1, hour, minute;

	*ns = 0;
	if (read_char(text, 'Z') || read_char(text, 'z'))
		return true;
	if (!read_char(text, '+') && !read_char(text, '-'))
		return false;
	if (!read_digits(text, 2, &hour) || !read_char(text, ':') ||
	    !read_digits(text, 2, &minute) || hour > 23 || minute > 59)
		return false;
	*ns = sign * ((int64_t)hour * 3600 + minute * 60) * NS_PER_S;
	return true;
}

static bool read_moment(const char *text, int64_t *wall_ns)
{
	int64_t days, clock_ns, zone_ns;

	if (!read_date(&text, &days))
		return false;
	if (!read_char(&text, 'T') && !read_char(&text, 't') && !read_char(&text, ' '))
		return false;
	if (!read_clock(&text, &clock_ns) || !read_zone(&text, &zone_ns) || *text)
		return false;
	*wall_ns = days * 86400 * NS_PER_S + clock_ns - zone_ns;
	return true;
}

int vac_parse_since(const char *text, int64_t now_wall_ns, int64_t *wall_ns)
{
	int64_t ms;

	if (read_moment(text, wall_ns))
		return 0;
	if (vac_parse_duration_ms(text, &ms) != 0 || *text == '-')
		return -EINVAL;
	*wall_ns = ms < 0 ? 0 : now_wall_ns - ms * NS_PER_MS; /* negative: for ever */
	return 0;
}
