/*
 * floats.c - the correctly rounded decimal of fewest digits that reads back as
 * the same float32.
 *
 * A vector of 384 components is 384 of these, so printf (about 250 ns each) is
 * too slow. The float is scaled to nine digits before the point in double
 * arithmetic, where it can be compared with its own rounding interval: a
 * decimal inside that interval reads back as the same float. Multiplying by a
 * power of ten up to 1e22 rounds once (these are exact doubles), so the scaled
 * value is wrong by less than 1e-7, and a decimal that is nearer than
 * MARGIN to the interval's edge is left to the slow and exact way, as is
 * everything outside 1e-14 ... 1e30. Any thread; no state.
 */
#include "api/api.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN 1e-6

static const double powers[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
				  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
				  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static const char pairs[201] = "00010203040506070809101112131415161718192021222324"
			       "25262728293031323334353637383940414243444546474849"
			       "50515253545556575859606162636465666768697071727374"
			       "75767778798081828384858687888990919293949596979899";

/* value = d.dddddddd x 10^exponent: nine digits, of which count matter. */
struct decimal {
	uint32_t digits; /* 100000000 to 999999999 */
	int count;
	int exponent;
};

/* Exact and slow: asks the C library for more and more digits until they read
 * back. Its decimal point is the locale's, so only digits are looked at. */
static struct decimal shortest_exact(float value)
{
	struct decimal out = {0, 0, 0};
	char text[48];

	for (int n = 1; n <= 9; n++) {
		const char *at = text;

		snprintf(text, sizeof(text), "%.*e", n - 1, (double)value);
		if (n < 9 && strtof(text, NULL) != value)
			continue;
		for (; *at && *at != 'e'; at++) {
			if (*at >= '0' && *at <= '9')
				out.digits = out.digits * 10 + (uint32_t)(*at - '0');
		}
		out.exponent = *at ? atoi(at + 1) : 0;
		out.count = n;
		break;
	}
	for (int n = out.count; n < 9; n++)
		out.digits *= 10;
	return out;
}

/* The multiple of granule that is nearest to scaled, and how far off it is. */
static inline double distance(double scaled, uint32_t granule, uint32_t *multiple)
{
	*multiple = (uint32_t)(scaled * (1.0 / granule) + 0.5) * granule;
	return fabs(scaled - *multiple); /* exact: both are near each other */
}

/* The fewest digits that lie less than half a unit away, or 0 where that
 * cannot be told. Which count it is, is as good as random: all are tried, so
 * that no branch is mispredicted. */
static inline int fewest_digits(double scaled, double half, uint32_t *found)
{
	uint32_t eight, seven, six;
	double room8 = half - distance(scaled, 10, &eight);
	double room7 = half - distance(scaled, 100, &seven);
	double room6 = half - distance(scaled, 1000, &six);
	/* Half a unit is more than one here, so nine digits always fit. */
	uint32_t best = (uint32_t)(scaled + 0.5);

	if ((fabs(room8) < MARGIN) | (fabs(room7) < MARGIN) | (fabs(room6) < MARGIN))
		return 0;
	best = room8 > 0 ? eight : best;
	best = room7 > 0 ? seven : best;
	/* A float32 keeps any six digits: fewer are these with zeros behind. */
	*found = room6 > 0 ? six : best;
	return 9 - (room8 > 0) - (room7 > 0) - (room6 > 0);
}

static inline double times_power(double value, int scale)
{
	return scale >= 0 ? value * powers[scale] : value / powers[-scale];
}

static inline struct decimal shortest(uint32_t bits, float value)
{
	int exp2 = (int)(bits >> 23) - 127;
	/* floor(log10(2^exp2)); exact over the whole range of float32 */
	int exp10 = (exp2 * 78913) >> 18;
	int scale = 8 - exp10, count;
	/* half a unit in the last place: 2^(exp2 - 24) */
	uint64_t half_bits = (uint64_t)(exp2 - 24 + 1023) << 52;
	uint32_t found = 0;
	double half;

	/* The far ends, subnormals among them; and powers of two, whose rounding
	 * interval is narrower below than above. */
	if (exp10 < -14 || exp10 > 29 || (bits & 0x7fffff) == 0)
		return shortest_exact(value);
	memcpy(&half, &half_bits, sizeof(half));
	scale -= times_power((double)value, scale) >= 1e9;
	count = fewest_digits(times_power((double)value, scale), times_power(half, scale), &found);
	if (count == 0)
		return shortest_exact(value);
	if (found == 1000000000) { /* rounded up to the next power of ten */
		found = 100000000;
		scale--;
		count = 1;
	}
	if (count == 6) {
		for (uint32_t unit = 10000; count > 1 && found % unit == 0; unit *= 10)
			count--;
	}
	return (struct decimal){found, count, 8 - scale};
}

/* All nine: no branch depends on how many matter. */
static inline void write_nine(char *to, uint32_t value)
{
	uint32_t high = value / 10000, low = value % 10000;

	memcpy(to + 7, pairs + low % 100 * 2, 2);
	memcpy(to + 5, pairs + low / 100 * 2, 2);
	memcpy(to + 3, pairs + high % 100 * 2, 2);
	high /= 100;
	memcpy(to + 1, pairs + high % 100 * 2, 2);
	to[0] = (char)('0' + high / 100);
}

static char *write_exponent(char *at, int exponent)
{
	*at++ = 'e';
	if (exponent < 0) {
		*at++ = '-';
		exponent = -exponent;
	}
	if (exponent >= 10)
		*at++ = (char)('0' + exponent / 10);
	*at++ = (char)('0' + exponent % 10);
	return at;
}

static inline char *write_decimal(char *at, struct decimal d)
{
	char digits[9];

	if (d.exponent < 0 && d.exponent >= -5) { /* 0.00ddd */
		memcpy(at, "0.00000", 7);
		at += 1 - d.exponent;
		write_nine(at, d.digits);
		return at + d.count;
	}
	write_nine(digits, d.digits);
	if (d.exponent < 0 || d.exponent > 8) { /* d.ddde-7 */
		at[0] = digits[0];
		at[1] = '.';
		memcpy(at + 2, digits + 1, 8);
		return write_exponent(d.count > 1 ? at + 1 + d.count : at + 1, d.exponent);
	}
	/* dd.ddd; an integer is ddd.0, its zeros being among the nine digits */
	memcpy(at, digits, (size_t)d.exponent + 1);
	at += d.exponent + 1;
	*at++ = '.';
	if (d.count <= d.exponent + 1) {
		*at++ = '0';
		return at;
	}
	memcpy(at, digits + d.exponent + 1, (size_t)(d.count - d.exponent - 1));
	return at + (d.count - d.exponent - 1);
}

size_t vac_format_float(char *to, float value)
{
	char *at = to;
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	if ((bits & 0x7f800000) == 0x7f800000) {
		memcpy(to, "null", 4);
		return 4;
	}
	/* Signs of a vector are as good as random: written, and counted if meant. */
	*at = '-';
	at += bits >> 31;
	bits &= 0x7fffffff;
	memcpy(&value, &bits, sizeof(value));
	if (bits == 0) {
		memcpy(at, "0.0", 3);
		return (size_t)(at + 3 - to);
	}
	at = write_decimal(at, shortest(bits, value));
	return (size_t)(at - to);
}
