/*
 * machine_peak.c - what this machine can do at best, for rooflines.
 *
 *   machine_peak [THREADS]
 *
 * Prints JSON: GFLOP/s of fused multiply-adds in registers (the widest vectors
 * that the processor has) and GB/s of reading memory that no cache holds, by
 * so many threads at once; the best of several tries.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define TRIES       40
#define READ_FLOATS ((size_t)64 << 20) /* 256 MiB */
#define LOOPS       400000
#define SUMS        12
#define MAX_THREADS 256

typedef float wide __attribute__((vector_size(64)));

struct part {
	pthread_t thread;
	pthread_barrier_t *barrier;
	const float *data;
	size_t first, last;
	volatile float result;
	unsigned floats; /* of a vector */
	int64_t start_ns, end_ns;
};

/* Enough independent sums to hide the latency, few enough for the registers;
 * the compilers cut the vectors into what the target has. */
#define FMA_BODY(type, lanes)                                                                      \
	type sum[SUMS], x = (type){0} + 0.5f, y = (type){0} + 0.25f;                               \
	_Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++) sum[i] = y * (float)i;             \
	for (int loop = 0; loop < LOOPS; loop++) {                                                 \
		_Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * x + y;   \
		__asm__ volatile("" ::: "memory");                                                 \
	}                                                                                          \
	float total = 0;                                                                           \
	_Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++) total += sum[i][0];                \
	*floats = (lanes);                                                                         \
	return total

typedef float half __attribute__((vector_size(32)));
typedef float quarter __attribute__((vector_size(16)));

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static float fma_avx512(unsigned *floats)
{
	FMA_BODY(wide, 16);
}
__attribute__((target("avx2,fma"))) static float fma_avx2(unsigned *floats)
{
	FMA_BODY(half, 8);
}
#endif
static float fma_plain(unsigned *floats)
{
	FMA_BODY(quarter, 4);
}

static float multiply_add(unsigned *floats)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512f"))
		return fma_avx512(floats);
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return fma_avx2(floats);
#endif
	return fma_plain(floats);
}

static void *compute(void *arg)
{
	struct part *part = arg;
	pthread_barrier_wait(part->barrier);
	part->start_ns = vac_now_ns();
	part->result = multiply_add(&part->floats);
	part->end_ns = vac_now_ns();
	return NULL;
}

static void *read_memory(void *arg)
{
	struct part *part = arg;
	wide sum[4];
	memset(sum, 0, sizeof(sum));
	pthread_barrier_wait(part->barrier);
	part->start_ns = vac_now_ns();
	for (size_t i = part->first; i + 64 <= part->last; i += 64)
		for (int k = 0; k < 4; k++)
			sum[k] += *(const wide *)(const void *)(part->data + i + 16 * k);
	part->result = sum[0][0] + sum[1][1] + sum[2][2] + sum[3][3];
	part->end_ns = vac_now_ns();
	return NULL;
}

/* Seconds of the fastest try, from the first start to the last end. */
static double best(unsigned threads, const float *data, void *(*fn)(void *), unsigned *floats)
{
	double least = 1e9;
	for (int try = 0; try < TRIES; try++) {
		struct part parts[MAX_THREADS];
		pthread_barrier_t barrier;
		pthread_barrier_init(&barrier, NULL, threads);
		for (unsigned i = 0; i < threads; i++) {
			parts[i].barrier = &barrier;
			parts[i].data = data;
			parts[i].first = READ_FLOATS / threads * i / 64 * 64;
			parts[i].last = READ_FLOATS / threads * (i + 1) / 64 * 64;
			if (pthread_create(&parts[i].thread, NULL, fn, &parts[i]) != 0)
				exit(1);
		}
		int64_t start = INT64_MAX, end = 0;
		for (unsigned i = 0; i < threads; i++) {
			pthread_join(parts[i].thread, NULL);
			start = parts[i].start_ns < start ? parts[i].start_ns : start;
			end = parts[i].end_ns > end ? parts[i].end_ns : end;
		}
		double seconds = (double)(end - start) * 1e-9;
		least = seconds < least ? seconds : least;
		*floats = parts[0].floats;
		pthread_barrier_destroy(&barrier);
	}
	return least;
}

int main(int argc, char **argv)
{
	unsigned threads = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
	float *data = aligned_alloc(64, READ_FLOATS * sizeof(float));
	if (!data || threads < 1 || threads > MAX_THREADS)
		return 1;
	memset(data, 0, READ_FLOATS * sizeof(float));
	unsigned floats = 0, unused = 0;
	double seconds = best(threads, data, compute, &floats);
	double flops = 2.0 * floats * SUMS * LOOPS * threads / seconds;
	double bytes =
		(double)(READ_FLOATS * sizeof(float)) / best(threads, data, read_memory, &unused);
	printf("{\"threads\": %u, \"gflops\": %.1f, \"gbytes_per_second\": %.1f}\n", threads,
	       flops * 1e-9, bytes * 1e-9);
	free(data);
	return 0;
}
