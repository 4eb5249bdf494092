/*
 * team.c - see team.h.
 *
 * One atomic word holds the loop's number, its count and the next index. A
 * claim is a compare-and-swap on the whole word, so that a thread that read the
 * word of an old loop cannot claim anything of a new one, whatever it read of
 * fn and ctx in between.
 */
#include "engine/team.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

#define INDEX_BITS 20
#define INDEX_MASK ((UINT64_C(1) << INDEX_BITS) - 1)

/* How long threads spin for the next loop, and the caller for the last index,
 * before they sleep. The pauses between a batch's loops are shorter, and waking
 * a thread takes as long. */
#define SPIN_NS (50 * 1000)

typedef void loop_fn(void *ctx, uint32_t i, uint32_t thread);

struct vac_team {
	/* loop number << 40 | count << 20 | next index */
	_Alignas(64) _Atomic uint64_t word;
	_Atomic(loop_fn *) fn;
	_Atomic(void *) ctx;
	/* what sleeping threads wait on: changes with each loop */
	_Alignas(64) _Atomic uint32_t wake;
	_Atomic uint32_t sleepers;
	_Atomic bool stop;
	_Alignas(64) _Atomic uint32_t finished; /* indices done; what the caller waits on */
	_Atomic uint32_t caller_sleeps;
	uint32_t threads;
	struct helper {
		struct vac_team *team;
		uint32_t number;
		pthread_t thread;
	} helpers[];
};

static void futex_wait(_Atomic uint32_t *at, uint32_t value)
{
	syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *at, int count)
{
	syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static inline void pause_a_moment(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

static inline bool has_next(uint64_t word)
{
	return (word & INDEX_MASK) < (word >> INDEX_BITS & INDEX_MASK);
}

/* Claims and runs indices until there are none. */
static void work(struct vac_team *team, uint32_t thread)
{
	uint64_t word = atomic_load_explicit(&team->word, memory_order_acquire);
	while (has_next(word)) {
		loop_fn *fn = atomic_load_explicit(&team->fn, memory_order_relaxed);
		void *ctx = atomic_load_explicit(&team->ctx, memory_order_relaxed);
		if (!atomic_compare_exchange_weak_explicit(&team->word, &word, word + 1,
							   memory_order_acquire,
							   memory_order_acquire))
			continue;
		fn(ctx, (uint32_t)(word & INDEX_MASK), thread);
		uint32_t count = (uint32_t)(word >> INDEX_BITS & INDEX_MASK);
		uint32_t finished =
			atomic_fetch_add_explicit(&team->finished, 1, memory_order_seq_cst) + 1;
		if (finished == count && thread != 0 &&
		    atomic_load_explicit(&team->caller_sleeps, memory_order_seq_cst))
			futex_wake(&team->finished, 1);
		word = atomic_load_explicit(&team->word, memory_order_acquire);
	}
}

/* Spins until there is an index to claim or the time is over. */
static bool spin_for_loop(struct vac_team *team)
{
	int64_t end = vac_now_ns() + SPIN_NS;
	do {
		for (int i = 0; i < 64; i++) {
			if (has_next(atomic_load_explicit(&team->word, memory_order_acquire)))
				return true;
			pause_a_moment();
		}
	} while (vac_now_ns() < end);
	return false;
}

static void *helper_main(void *arg)
{
	struct helper *self = arg;
	struct vac_team *team = self->team;
	while (!atomic_load_explicit(&team->stop, memory_order_acquire)) {
		uint32_t wake = atomic_load_explicit(&team->wake, memory_order_seq_cst);
		if (!spin_for_loop(team)) {
			/* Announced before the word is looked at again: either this
			 * thread sees the loop, or the caller sees the sleeper. */
			atomic_fetch_add_explicit(&team->sleepers, 1, memory_order_seq_cst);
			if (!has_next(atomic_load_explicit(&team->word, memory_order_seq_cst)) &&
			    !atomic_load_explicit(&team->stop, memory_order_seq_cst))
				futex_wait(&team->wake, wake);
			atomic_fetch_sub_explicit(&team->sleepers, 1, memory_order_seq_cst);
		}
		work(team, self->number);
	}
	return NULL;
}

static void wake_helpers(struct vac_team *team)
{
	atomic_fetch_add_explicit(&team->wake, 1, memory_order_seq_cst);
	if (atomic_load_explicit(&team->sleepers, memory_order_seq_cst))
		futex_wake(&team->wake, (int)team->threads);
}

void vac_team_free(struct vac_team *team)
{
	if (!team)
		return;
	atomic_store_explicit(&team->stop, true, memory_order_seq_cst);
	wake_helpers(team);
	for (uint32_t i = 1; i < team->threads; i++)
		pthread_join(team->helpers[i - 1].thread, NULL);
	free(team);
}

int vac_team_new(uint32_t threads, struct vac_team **out, struct vac_error *err)
{
	sigset_t all, before;
	size_t bytes = sizeof(struct vac_team) + (threads - 1) * sizeof(struct helper);
	struct vac_team *team = aligned_alloc(64, (bytes + 63) / 64 * 64);
	if (!team)
		return vac_fail_nomem(err, "the thread team", bytes);
	memset(team, 0, bytes);
	team->threads = 1;
	/* signals are for the threads of the program */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = 0;
	while (rc == 0 && team->threads < threads) {
		struct helper *helper = &team->helpers[team->threads - 1];
		helper->team = team;
		helper->number = team->threads;
		rc = pthread_create(&helper->thread, NULL, helper_main, helper);
		if (rc == 0)
			team->threads++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0) {
		uint32_t made = team->threads;
		vac_team_free(team);
		return vac_fail_errno(err, rc, "thread %u of %u did not start", made, threads);
	}
	*out = team;
	return 0;
}

/* The last indices are with others: spin, then sleep, so that a thread that
 * waits for a CPU can have this one. */
static void wait_for_others(struct vac_team *team, uint32_t count)
{
	int64_t end = 0;
	for (uint32_t spins = 0;; spins++) {
		uint32_t finished = atomic_load_explicit(&team->finished, memory_order_acquire);
		if (finished == count)
			return;
		pause_a_moment();
		if (spins % 64 != 63)
			continue;
		int64_t now = vac_now_ns();
		if (end == 0)
			end = now + SPIN_NS;
		if (now < end)
			continue;
		atomic_store_explicit(&team->caller_sleeps, 1, memory_order_seq_cst);
		finished = atomic_load_explicit(&team->finished, memory_order_seq_cst);
		if (finished != count)
			futex_wait(&team->finished, finished);
		atomic_store_explicit(&team->caller_sleeps, 0, memory_order_relaxed);
	}
}

void vac_team_run(struct vac_team *team, uint32_t count, loop_fn *fn, void *ctx)
{
	if (team->threads == 1 || count < 2) {
		for (uint32_t i = 0; i < count; i++)
			fn(ctx, i, 0);
		return;
	}
	uint64_t loop =
		(atomic_load_explicit(&team->word, memory_order_relaxed) >> (2 * INDEX_BITS)) + 1;
	atomic_store_explicit(&team->finished, 0, memory_order_relaxed);
	atomic_store_explicit(&team->fn, fn, memory_order_relaxed);
	atomic_store_explicit(&team->ctx, ctx, memory_order_relaxed);
	atomic_store_explicit(&team->word, loop << (2 * INDEX_BITS) | (uint64_t)count << INDEX_BITS,
			      memory_order_seq_cst);
	wake_helpers(team);
	work(team, 0);
	wait_for_others(team, count);
}
