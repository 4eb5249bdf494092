/*
 * test_gpus.c - readings of GPUs: who is told of which, also when those who are told ask
 * again or end others who wait. vacate-gpud and its supervisor are this file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/gpus.h"
#include "wire/spawn.h"

static struct vac_supervisor supervisor;
static struct vac_loop loop;
static struct vac_gpus gpus;
static struct vac_worker gpud;
static int questions;    /* put so far */
static bool unreachable; /* no question can be put */

/* ---- the supervisor ---- */

struct vac_worker *vac_supervisor_worker(struct vac_supervisor *of, const char *device,
					 const char *owner, bool plan_only, struct vac_error *err)
{
	assert_ptr_equal(of, &supervisor);
	assert_string_equal(device, VAC_SPAWN_GPUS);
	assert_true(!owner && plan_only);
	if (!unreachable)
		return &gpud;
	vac_fail(err, VAC_E_IO, "vacate-gpud cannot be started");
	return NULL;
}

struct vac_ask vac_worker_begin(struct vac_worker *worker)
{
	return (struct vac_ask){.worker = worker, .id = (uint64_t)questions + 1};
}

int vac_worker_commit(const struct vac_ask *ask, struct vac_exchange *exchange,
		      struct vac_error *err)
{
	(void)err;
	/* one at a time */
	assert_int_equal(exchange->id, 0);
	exchange->id = ask->id;
	questions++;
	return 0;
}

void vac_worker_flush(struct vac_worker *worker)
{
	(void)worker;
}

void vac_worker_stop(struct vac_worker *worker)
{
	(void)worker;
	fail_msg("nobody is to be stopped");
}

/* The question is answered by so many used bytes of one GPU. */
static void answer(uint64_t used_bytes)
{
	struct vac_wire_gpus read = {.count = 1};
	struct vac_buf out = VAC_BUF_INIT;
	struct vac_wire_header header;
	struct vac_error err;

	read.gpus[0] = (struct vac_wire_gpu){.device = vac_wire_text("cuda:0"),
					     .name = vac_wire_text("Fake GPU"),
					     .uuid = vac_wire_text("GPU-0"),
					     .total_bytes = 1000,
					     .used_bytes = used_bytes};
	assert_int_not_equal(gpus.exchange.id, 0);
	vac_wire_put_gpus(&out, gpus.exchange.id, &read);
	assert_int_equal(vac_wire_peek(out.data, out.bytes, &header, &err), 1);
	gpus.exchange.id = 0;
	assert_int_equal(gpus.exchange.answer(&gpus.exchange, &header,
					      out.data + VAC_WIRE_HEADER_BYTES, &err),
			 0);
	vac_buf_free(&out);
}

static void lose(void)
{
	struct vac_error why;

	vac_fail(&why, VAC_E_GONE, "vacate-gpud ended");
	assert_int_not_equal(gpus.exchange.id, 0);
	gpus.exchange.id = 0;
	gpus.exchange.lost(&gpus.exchange, &why);
}

/* ---- who asks ---- */

static struct asker {
	struct vac_gpus_wait wait; /* first */
	int told;
	uint64_t used_bytes; /* as told last; 0: there was no reading */
	struct asker *asks, *ends;
	bool refreshes;
} askers[4];

static void told(struct vac_gpus_wait *wait)
{
	struct asker *asker = (struct asker *)wait;
	const struct vac_gpu *gpu = vac_gpus_find(&gpus, "cuda:0");
	struct asker *asks = asker->asks;

	asker->told++;
	asker->used_bytes = gpu ? gpu->used_bytes : 0;
	asker->asks = NULL;
	if (asker->refreshes)
		vac_gpus_refresh(&gpus);
	if (asks)
		vac_gpus_ask(&gpus, &asks->wait, told);
	if (asker->ends)
		vac_gpus_unwait(&gpus, &asker->ends->wait);
}

static void ask(struct asker *asker)
{
	vac_gpus_ask(&gpus, &asker->wait, told);
}

static void was_told(const struct asker *asker, int times, uint64_t used_bytes)
{
	assert_int_equal(asker->told, times);
	assert_int_equal(asker->used_bytes, used_bytes);
}

/* A reading is shared by those who asked before it began, and by nobody else. */
static void test_shared(void **state)
{
	(void)state;
	ask(&askers[0]);
	ask(&askers[1]);
	ask(&askers[2]);
	assert_int_equal(questions, 1);
	answer(10);
	was_told(&askers[0], 1, 10);
	was_told(&askers[1], 0, 0);
	assert_int_equal(questions, 2);
	answer(20);
	was_told(&askers[1], 1, 20);
	was_told(&askers[2], 1, 20);
	assert_int_equal(questions, 2);
}

/* Who asks again while he waits is told once, of the later one, and the others of theirs. */
static void test_asked_again(void **state)
{
	(void)state;
	ask(&askers[0]);
	ask(&askers[1]);
	ask(&askers[2]);
	answer(10);
	ask(&askers[2]); /* under way, and another behind it in its list */
	ask(&askers[3]);
	ask(&askers[3]); /* not begun yet */
	answer(20);
	was_told(&askers[1], 1, 20);
	was_told(&askers[2], 0, 0);
	answer(30);
	was_told(&askers[2], 1, 30);
	was_told(&askers[3], 1, 30);
	assert_int_equal(questions, 3);
	assert_null(gpus.waits);
	assert_null(gpus.later);
}

/* Who is told may end another who is to be told of the same reading. */
static void test_ended_meanwhile(void **state)
{
	(void)state;
	ask(&askers[0]);
	for (int i = 1; i < 4; i++)
		ask(&askers[i]);
	answer(10);
	/* the last that asked is the first to be told */
	askers[3].ends = &askers[2];
	answer(20);
	was_told(&askers[3], 1, 20);
	was_told(&askers[2], 0, 0);
	was_told(&askers[1], 1, 20);
	assert_int_equal(questions, 2);
}

/* All are told of the same, also when the first asks again at once, and that fails. */
static void test_asked_while_told(void **state)
{
	(void)state;
	ask(&askers[0]);
	for (int i = 1; i < 4; i++)
		ask(&askers[i]);
	answer(10);
	askers[3].asks = &askers[0];
	askers[2].asks = &askers[1]; /* who is told next waits for the one after instead */
	unreachable = true;
	answer(20);
	was_told(&askers[3], 1, 20);
	was_told(&askers[2], 1, 20);
	was_told(&askers[0], 2, 0);
	was_told(&askers[1], 1, 0);
	assert_int_equal(gpus.error.code, VAC_E_IO);
	assert_int_equal(questions, 2);
	/* and is not lost either */
	unreachable = false;
	askers[0].refreshes = true;
	ask(&askers[0]);
	lose();
	was_told(&askers[0], 3, 0);
	assert_int_equal(gpus.error.code, VAC_E_GONE);
	assert_int_equal(questions, 4);
	answer(40);
	assert_int_equal(vac_gpus_find(&gpus, "cuda:0")->used_bytes, 40);
}

static int set_up(void **state)
{
	struct vac_error err;

	(void)state;
	memset(askers, 0, sizeof(askers));
	questions = 0;
	unreachable = false;
	assert_int_equal(vac_loop_init(&loop, &err), 0);
	supervisor = (struct vac_supervisor){.loop = &loop};
	return vac_gpus_init(&gpus, &supervisor, &err);
}

static int tear_down(void **state)
{
	(void)state;
	vac_gpus_free(&gpus);
	vac_loop_free(&loop);
	vac_buf_free(&gpud.out);
	return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_shared),
		TEST(test_asked_again),
		TEST(test_ended_meanwhile),
		TEST(test_asked_while_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
