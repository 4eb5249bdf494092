/* size.c - amounts of memory as people write them. Any thread; no state. */
#include "base/size.h"

#include <errno.h>
#include <string.h>

/* A number with at most one point: whole part and thousandths apart, so that
 * whole bytes stay exact up to 2^64 - 1. What is behind the third digit of a
 * fraction does not count. */
struct number {
	uint64_t whole;
	uint32_t thousandths;
	bool has_fraction;
};

static int read_number(const char **text, struct number *out)
{
	const char *at = *text;
	uint32_t place = 100;

	*out = (struct number){0};
	if (*at < '0' || *at > '9')
		return -EINVAL;
	for (; *at >= '0' && *at <= '9'; at++) {
		uint64_t digit = (uint64_t)(*at - '0');

		if (out->whole > (UINT64_MAX - digit) / 10)
			return -EINVAL;
		out->whole = out->whole * 10 + digit;
	}
	if (*at == '.') {
		out->has_fraction = true;
		at++;
		if (*at < '0' || *at > '9')
			return -EINVAL;
		for (; *at >= '0' && *at <= '9'; at++, place /= 10)
			out->thousandths += (uint32_t)(*at - '0') * place;
	}
	*text = at;
	return 0;
}

/* The factor of a unit; 0: it is none. */
static uint64_t factor_of(const char *unit)
{
	static const char letters[] = "KMGT";
	const char *letter = *unit ? strchr(letters, *unit) : NULL;
	bool decimal;
	uint64_t factor = 1;

	if (!letter)
		return *unit == '\0' || strcmp(unit, "B") == 0 ? 1 : 0;
	decimal = strcmp(unit + 1, "B") == 0;
	if (!decimal && unit[1] != '\0' && strcmp(unit + 1, "iB") != 0)
		return 0;
	for (const char *at = letters; at <= letter; at++)
		factor *= decimal ? 1000 : 1024;
	return factor;
}

int vac_size_parse_bytes(const char *text, uint64_t *bytes)
{
	struct number number;
	uint64_t factor, whole, part;

	if (read_number(&text, &number) != 0)
		return -EINVAL;
	factor = factor_of(text);
	/* Half a byte is a mistake. */
	if (factor == 0 || (factor == 1 && number.has_fraction))
		return -EINVAL;
	if (number.whole > UINT64_MAX / factor)
		return -EINVAL;
	whole = number.whole * factor;
	part = factor * number.thousandths / 1000;
	if (whole > UINT64_MAX - part)
		return -EINVAL;
	*bytes = whole + part;
	return 0;
}

int vac_size_parse(const char *text, struct vac_size *out)
{
	const char *at = text;
	struct number number;

	*out = (struct vac_size){0};
	if (read_number(&at, &number) == 0 && strcmp(at, "%") == 0) {
		if (number.whole > 100 || (number.whole == 100 && number.thousandths > 0))
			return -EINVAL;
		out->is_share = true;
		out->share = ((double)number.whole + number.thousandths / 1e3) / 100;
		return 0;
	}
	return vac_size_parse_bytes(text, &out->bytes);
}

uint64_t vac_size_of(const struct vac_size *size, uint64_t whole_bytes)
{
	if (!size->is_share)
		return size->bytes;
	return (uint64_t)(size->share * (double)whole_bytes);
}
