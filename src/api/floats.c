/*
 * floats.c - the shortest decimal that reads back as the same float32.
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

/* Significant digits without a trailing zero, and the power of ten of the
 * first one: value = d.ddd x 10^exponent. */
struct decimal {
	uint32_t digits;
	int exponent;
};

static int count_digits(uint32_t value)
{
	static const uint32_t limits[] = {10,      100,      1000,      10000,     100000,
					  1000000, 10000000, 100000000, 1000000000};
	int n = 1;

	while (n < 10 && value >= limits[n - 1])
		n++;
	return n;
}

/* Exact and slow: asks the C library for more and more digits until they read
 * back. Its decimal point is the locale's, so only digits are looked at. */
static struct decimal shortest_exact(float value)
{
	struct decimal out = {0, 0};
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
		break;
	}
	while (out.digits && out.digits % 10 == 0)
		out.digits /= 10;
	return out;
}

/* The multiple of granule that is nearest to scaled lies inside the rounding
 * interval: 1, outside: 0, too near to the edge to tell: -1. */
static inline int fits(double scaled, uint32_t granule, double below, double above,
		       uint32_t *quotient)
{
	uint32_t q = (uint32_t)scaled / granule;
	double rest = scaled - (double)q * granule; /* exact: both are near each other */
	double room;

	if (rest >= granule * 0.5) {
		q++;
		rest -= granule;
	}
	*quotient = q;
	room = rest > 0 ? below - rest : above + rest;
	if (room > MARGIN)
		return 1;
	return room < -MARGIN ? 0 : -1;
}

static struct decimal shortest(uint32_t bits, float value)
{
	int exp2 = (int)(bits >> 23) - 127;
	/* floor(log10(2^exp2)); exact over the whole range of float32 */
	int exp10 = (exp2 * 78913) >> 18;
	int scale = 8 - exp10, digits = 9, answer;
	double scaled, above, below, power;
	uint32_t found, q;

	/* Subnormals (whose interval is wider than six digits) and the far ends. */
	if (exp10 < -14 || exp10 > 29)
		return shortest_exact(value);
	power = scale >= 0 ? powers[scale] : powers[-scale];
	scaled = scale >= 0 ? (double)value * power : (double)value / power;
	if (scaled >= 1e9) {
		scale--;
		power = scale >= 0 ? powers[scale] : powers[-scale];
		scaled = scale >= 0 ? (double)value * power : (double)value / power;
	}
	/* Half a unit in the last place is 2^(exp2 - 24); a power of two has
	 * half of that below it. */
	{
		uint64_t half_bits = (uint64_t)(exp2 - 24 + 1023) << 52;
		double half;

		memcpy(&half, &half_bits, sizeof(half));
		above = scale >= 0 ? half * power : half / power;
		below = (bits & 0x7fffff) ? above : above * 0.5;
	}
	/* The interval is wider than one, so nine digits always fit. Six always
	 * find what has fewer: a float32 keeps any six digits. */
	(void)fits(scaled, 1, below, above, &found);
	for (uint32_t granule = 10; granule <= 1000; granule *= 10) {
		answer = fits(scaled, granule, below, above, &q);
		if (answer < 0)
			return shortest_exact(value);
		if (answer == 0)
			break;
		found = q;
		digits--;
	}
	while (found % 10 == 0) {
		found /= 10;
		digits--;
	}
	return (struct decimal){found, count_digits(found) - 1 - scale + 9 - digits};
}

static void write_digits(char *to, uint32_t value, int count)
{
	while (count >= 2) {
		count -= 2;
		memcpy(to + count, pairs + value % 100 * 2, 2);
		value /= 100;
	}
	if (count)
		to[0] = (char)('0' + value);
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

static char *write_decimal(char *at, struct decimal d)
{
	int count = count_digits(d.digits);

	if (d.exponent < -5 || d.exponent > 8) { /* d.ddde-7 */
		char digits[10];

		write_digits(digits, d.digits, count);
		*at++ = digits[0];
		if (count > 1) {
			*at++ = '.';
			memcpy(at, digits + 1, (size_t)count - 1);
			at += count - 1;
		}
		return write_exponent(at, d.exponent);
	}
	if (d.exponent < 0) { /* 0.00ddd */
		memcpy(at, "0.000000", 8);
		at += 1 - d.exponent;
		write_digits(at, d.digits, count);
		return at + count;
	}
	if (count <= d.exponent + 1) { /* ddd000.0 */
		write_digits(at, d.digits, count);
		memset(at + count, '0', (size_t)(d.exponent + 1 - count));
		at += d.exponent + 1;
		memcpy(at, ".0", 2);
		return at + 2;
	}
	/* dd.ddd */
	write_digits(at + 1, d.digits, count);
	memmove(at, at + 1, (size_t)d.exponent + 1);
	at[d.exponent + 1] = '.';
	return at + count + 1;
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
	if (bits >> 31) {
		*at++ = '-';
		bits &= 0x7fffffff;
		value = -value;
	}
	if (bits == 0) {
		memcpy(at, "0.0", 3);
		return (size_t)(at + 3 - to);
	}
	at = write_decimal(at, shortest(bits, value));
	return (size_t)(at - to);
}
