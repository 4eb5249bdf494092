/*
 * test_events.c - the ring of events, streams of several speeds, and the
 * sampler. Expected texts are written by hand from docs/api.md.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/events.h"
#include "server/sampler.h"

#define MS INT64_C(1000000)

/* ---- ring ---- */

/* Records of all sizes around a small ring, many times; the reader sees each
 * that is still there, whole and in order. */
static void test_ring(void **state)
{
	char name[64], text[512];
	struct vac_ring_event event;
	struct vac_error err;
	struct vac_ring ring;
	uint64_t at, id;

	(void)state;
	memset(name, 'n', sizeof(name));
	memset(text, 't', sizeof(text));
	srand(3);
	assert_int_equal(vac_ring_init(&ring, 4096, &err), 0);
	for (uint64_t put = 1; put <= 5000; put++) {
		event = (struct vac_ring_event){.id = put,
						.kind = 1 + (uint32_t)put % 7,
						.done_bytes = put * 3,
						.total_bytes = put * 5,
						.name = name,
						.name_bytes = (size_t)rand() % sizeof(name),
						.text = text,
						.text_bytes = (size_t)rand() % sizeof(text)};
		text[0] = (char)('a' + put % 26);
		assert_true(vac_ring_put(&ring, &event));
		assert_true(ring.head - ring.tail <= ring.capacity);
		id = 0;
		for (at = ring.tail; at < ring.head; at = vac_ring_get(&ring, at, &event)) {
			if (at == ring.tail)
				continue;
			assert_true(id == 0 || event.id == id + 1);
			id = event.id;
			assert_int_equal(event.kind, 1 + id % 7);
			assert_int_equal(event.done_bytes, id * 3);
			assert_int_equal(event.total_bytes, id * 5);
			assert_true(event.name_bytes < sizeof(name));
			assert_memory_equal(event.name, name, event.name_bytes);
			if (event.text_bytes > 0)
				assert_int_equal(event.text[0], 'a' + (int)(id % 26));
		}
		assert_int_equal(event.id, put);
	}
	event.text_bytes = 1100;
	assert_false(vac_ring_put(&ring, &event)); /* more than a quarter */
	vac_ring_forget(&ring);
	assert_int_equal(ring.head, ring.tail);
	vac_ring_free(&ring);
}

/* ---- streams ---- */

/* What the registry would know: names in order, and a kind for each. */
#define MODELS 100
static char names[MODELS][8];
static enum vac_event_kind kinds[MODELS]; /* 0: not active */
static int64_t fake_now_ns;

static int64_t now_ns(void)
{
	return fake_now_ns;
}

static size_t states(void *ctx, const char *after, const char *only, struct vac_event *out,
		     struct vac_event_more *more, size_t most)
{
	size_t count = 0;

	(void)ctx;
	for (int i = 0; i < MODELS && count < most; i++) {
		if (kinds[i] == 0 || (after && strcmp(names[i], after) <= 0) ||
		    (only && strcmp(names[i], only) != 0))
			continue;
		out[count] = (struct vac_event){
			.kind = kinds[i], .model = names[i], .device = "cpu", .bytes = 7};
		more[count++] = (struct vac_event_more){.state = true};
	}
	return count;
}

static int wakes;
static void wake(struct vac_stream *stream)
{
	(void)stream;
	wakes++;
}

static void set_up(struct vac_events *events)
{
	for (int i = 0; i < MODELS; i++) {
		snprintf(names[i], sizeof(names[i]), "m%02d", i);
		kinds[i] = 0;
	}
	fake_now_ns = 1000 * MS;
	wakes = 0;
	vac_events_init(events, 3, states, NULL);
	events->now_ns = now_ns;
}

/* All that a stream has to say, NUL-terminated; *last: what ended it. */
static char *take_all(struct vac_stream *stream, size_t room, int64_t *last)
{
	static char all[1 << 20];
	size_t bytes = 0;
	int64_t n;

	while ((n = vac_stream_take(stream, all + bytes, room)) > 0)
		bytes += (size_t)n;
	all[bytes] = '\0';
	if (last)
		*last = n;
	return all;
}

static void tell(struct vac_events *events, const char *model, enum vac_event_kind kind)
{
	struct vac_event event = {.kind = kind, .model = model, .device = "cpu", .bytes = 5};

	vac_events_tell(events, &event, &(struct vac_event_more){.wall_ns = 0});
}

static int count_of(const char *text, const char *word)
{
	int count = 0;

	for (; (text = strstr(text, word)); text++)
		count++;
	return count;
}

static void test_stream(void **state)
{
	struct vac_events events;
	struct vac_stream stream;
	struct vac_error err;
	int64_t last;

	(void)state;
	set_up(&events);
	kinds[3] = VAC_EVENT_RESIDENT;
	assert_int_equal(vac_stream_open(&stream, &events, VAC_STREAM_NATIVE, NULL, wake, &err), 0);
	/* Byte by byte, as a slow socket takes it. */
	assert_string_equal(
		take_all(&stream, 1, &last),
		"retry: 2000\n\n"
		"id: 0\nevent: resident\ndata: {\"time\":\"1970-01-01T00:00:00.000Z\","
		"\"event\":\"resident\",\"model\":\"m03\",\"device\":\"cpu\",\"bytes\":7,"
		"\"load_ms\":0.000,\"state\":true}\n\n");
	assert_int_equal(last, 0);
	tell(&events, "m04", VAC_EVENT_PLANNED);
	tell(&events, "m04", VAC_EVENT_PLANNED);
	assert_int_equal(wakes, 1);
	assert_string_equal(
		take_all(&stream, 100, NULL),
		"id: 1\nevent: planned\ndata: {\"time\":\"1970-01-01T00:00:00.000Z\","
		"\"event\":\"planned\",\"model\":\"m04\",\"device\":\"cpu\",\"bytes\":5}\n\n"
		"id: 2\nevent: planned\ndata: {\"time\":\"1970-01-01T00:00:00.000Z\","
		"\"event\":\"planned\",\"model\":\"m04\",\"device\":\"cpu\",\"bytes\":5}\n\n");
	/* Silence. */
	fake_now_ns += VAC_EVENTS_SILENCE_MS * MS - 1;
	assert_int_equal(vac_events_tick(&events), fake_now_ns + 1);
	assert_int_equal(wakes, 1);
	fake_now_ns++;
	assert_int_equal(vac_events_tick(&events), fake_now_ns + VAC_EVENTS_SILENCE_MS * MS);
	assert_int_equal(wakes, 2);
	assert_string_equal(take_all(&stream, 100, NULL), ": \n\n");
	/* The end comes behind what was told. */
	tell(&events, "m05", VAC_EVENT_DRAINING);
	vac_stream_end(&stream);
	assert_non_null(strstr(take_all(&stream, 100, &last), "draining"));
	assert_int_equal(last, VAC_STREAM_OVER);
	vac_stream_close(&stream);
	vac_stream_close(&stream);
	assert_null(events.ring.data); /* nobody listens: nothing is held */
	vac_events_free(&events);
}

static void test_only_one_model(void **state)
{
	struct vac_events events;
	struct vac_stream stream;
	struct vac_error err;
	const char *text;

	(void)state;
	set_up(&events);
	kinds[1] = kinds[2] = VAC_EVENT_RESIDENT;
	assert_int_equal(vac_stream_open(&stream, &events, VAC_STREAM_NATIVE, "m02", wake, &err),
			 0);
	text = take_all(&stream, 4096, NULL);
	assert_null(strstr(text, "m01"));
	assert_int_equal(count_of(text, "\"m02\""), 1);
	/* Others may say as much as they like: it does not fall behind. */
	for (int i = 0; i < 20000; i++)
		tell(&events, "m01", VAC_EVENT_LOADING);
	assert_int_equal(wakes, 0);
	tell(&events, "m02", VAC_EVENT_LOADING);
	tell(&events, "m021", VAC_EVENT_LOADING);
	assert_int_equal(wakes, 1);
	text = take_all(&stream, 4096, NULL);
	assert_int_equal(count_of(text, "event: loading"), 1);
	assert_int_equal(events.lost, 0);
	vac_stream_close(&stream);
	vac_events_free(&events);
}

/* The state is told in pieces while things happen: what was told already
 * changes at once, what is to come is left out until then. */
static void test_state_and_changes(void **state)
{
	struct vac_events events;
	struct vac_stream stream;
	struct vac_error err;
	char piece[1024];
	int64_t n;
	const char *text;

	(void)state;
	set_up(&events);
	for (int i = 0; i < MODELS; i++)
		kinds[i] = VAC_EVENT_RESIDENT;
	assert_int_equal(vac_stream_open(&stream, &events, VAC_STREAM_NATIVE, NULL, wake, &err), 0);
	n = vac_stream_take(&stream, piece, sizeof(piece)); /* the first word alone */
	assert_true(n > 0);
	n = vac_stream_take(&stream, piece, sizeof(piece)); /* of m00 ... */
	assert_true(n > 0);
	assert_non_null(memmem(piece, (size_t)n, "\"m00\"", 5));
	kinds[0] = kinds[90] = 0;
	tell(&events, "m00", VAC_EVENT_ABSENT);  /* told already */
	tell(&events, "m90", VAC_EVENT_ABSENT);  /* to come */
	tell(&events, "m91", VAC_EVENT_REFUSED); /* no state: always told */
	text = take_all(&stream, sizeof(piece), NULL);
	assert_int_equal(count_of(text, "\"event\":\"absent\",\"model\":\"m00\""), 1);
	assert_int_equal(count_of(text, "\"m90\""), 0);
	assert_int_equal(count_of(text, "\"event\":\"refused\",\"model\":\"m91\""), 1);
	assert_int_equal(count_of(text, "\"event\":\"resident\",\"model\":\"m91\""), 1);
	assert_int_equal(count_of(text, "\"event\":\"resident\",\"model\":\"m99\""), 1);
	tell(&events, "m90", VAC_EVENT_PLANNED); /* the state is told: all of it */
	assert_int_equal(count_of(take_all(&stream, 1024, NULL), "\"m90\""), 1);
	vac_stream_close(&stream);
	vac_events_free(&events);
}

static void test_too_slow(void **state)
{
	struct vac_events events;
	struct vac_stream slow, quick;
	struct vac_error err;
	uint64_t seen = 0;
	const char *text,
		*whole = "id: 1\nevent: loading\ndata: {\"time\":\"1970-01-01T00:00:00.000Z\","
			 "\"event\":\"loading\",\"model\":\"m08\",\"device\":\"cpu\",\"done_"
			 "bytes\":0,"
			 "\"total_bytes\":0}\n\n";
	char start[64];
	int64_t n;

	(void)state;
	set_up(&events);
	kinds[7] = VAC_EVENT_RESIDENT;
	assert_int_equal(vac_stream_open(&slow, &events, VAC_STREAM_NATIVE, NULL, wake, &err), 0);
	assert_int_equal(vac_stream_open(&quick, &events, VAC_STREAM_NATIVE, NULL, wake, &err), 0);
	take_all(&slow, 4096, NULL);
	take_all(&quick, 4096, NULL);
	for (int i = 0; i < 10000; i++) {
		tell(&events, "m08", VAC_EVENT_LOADING);
		/* It has taken some bytes of an event; the rest still comes. */
		if (i == 0) {
			n = vac_stream_take(&slow, start, sizeof(start));
			assert_int_equal(n, sizeof(start));
		}
		seen += (uint64_t)count_of(take_all(&quick, 4096, NULL), "event: loading");
	}
	assert_int_equal(seen, 10000);
	assert_int_equal(events.lost, 0);
	text = take_all(&slow, 4096, NULL);
	assert_int_equal(events.lost, 1);
	assert_memory_equal(start, whole, sizeof(start));
	assert_memory_equal(text, whole + sizeof(start), strlen(whole) - sizeof(start));
	assert_int_equal(count_of(text, "event: loading"), 0);
	assert_int_equal(count_of(text, "id: 10000\nevent: lost\ndata: {\"time\":\""), 1);
	assert_int_equal(count_of(text, "\"event\":\"lost\",\"events\":9999}\n\n"), 1);
	assert_int_equal(count_of(text, "\"model\":\"m07\",\"device\":\"cpu\",\"bytes\":7"), 1);
	assert_true(strstr(text, "event: lost") < strstr(text, "m07"));
	/* What a slow one costs: the text of a few events. */
	assert_true(slow.out.capacity < 16384);
	vac_stream_close(&slow);
	vac_stream_close(&quick);
	vac_events_free(&events);
}

static void test_most(void **state)
{
	struct vac_stream streams[4];
	struct vac_events events;
	struct vac_error err;

	(void)state;
	set_up(&events);
	for (int i = 0; i < 3; i++)
		assert_int_equal(
			vac_stream_open(&streams[i], &events, VAC_STREAM_NATIVE, NULL, wake, &err),
			0);
	assert_int_equal(
		vac_stream_open(&streams[3], &events, VAC_STREAM_NATIVE, "m01", wake, &err),
		-EAGAIN);
	assert_int_equal(err.code, VAC_E_BUSY);
	assert_non_null(strstr(err.message, "3 clients listen"));
	vac_stream_close(&streams[3]);
	vac_stream_close(&streams[1]);
	assert_int_equal(
		vac_stream_open(&streams[3], &events, VAC_STREAM_NATIVE, "m01", wake, &err), 0);
	vac_stream_close(&streams[3]);
	vac_stream_close(&streams[0]);
	vac_stream_close(&streams[2]);
	vac_events_free(&events);
}

static void test_llama_shape(void **state)
{
	struct vac_event event = {.kind = VAC_EVENT_LOADING,
				  .model = "m\"04",
				  .device = "cpu",
				  .done_bytes = 1,
				  .total_bytes = 4};
	struct vac_event_more more = {0};
	struct vac_events events;
	struct vac_stream stream;
	struct vac_error err;

	(void)state;
	set_up(&events);
	kinds[3] = VAC_EVENT_RESIDENT;
	assert_int_equal(vac_stream_open(&stream, &events, VAC_STREAM_LLAMA_CPP, NULL, wake, &err),
			 0);
	assert_string_equal(take_all(&stream, 4096, NULL),
			    "retry: 2000\n\nid: 0\ndata: {\"model\":\"m03\",\"event\":"
			    "\"model_status\",\"data\":{\"status\":\"loaded\"}}\n\n");
	vac_events_tell(&events, &event, &more);
	event.kind = VAC_EVENT_DRAINING;
	vac_events_tell(&events, &event, &more);
	event.kind = VAC_EVENT_FAILED;
	vac_events_tell(&events, &event, &more);
	assert_string_equal(
		take_all(&stream, 4096, NULL),
		"id: 1\ndata: "
		"{\"model\":\"m\\\"04\",\"event\":\"status_change\",\"data\":{\"status\":"
		"\"loading\",\"progress\":{\"stages\":[\"text_model\"],\"current\":\"text_model\","
		"\"value\":0.2500}}}\n\n"
		"id: 3\ndata: "
		"{\"model\":\"m\\\"04\",\"event\":\"status_change\",\"data\":{\"status\":"
		"\"unloaded\",\"exit_code\":1}}\n\n");
	vac_stream_close(&stream);
	vac_events_free(&events);
}

/* ---- sampler ---- */

static void test_sampler(void **state)
{
	struct vac_sampler sampler = {0};
	char name[16];

	(void)state;
	assert_int_equal(vac_sampler_take(&sampler, "a", 6, MS), 1);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(vac_sampler_take(&sampler, "a", 6, 2 * MS), 0);
	assert_int_equal(vac_sampler_take(&sampler, "a", 5, 2 * MS), 1); /* another thing */
	assert_int_equal(vac_sampler_take(&sampler, "b", 6, 2 * MS), 1);
	assert_int_equal(vac_sampler_take(&sampler, "a", 6, (VAC_SAMPLER_INTERVAL_MS + 1) * MS),
			 1001);
	assert_int_equal(vac_sampler_take(&sampler, "a", 6, (VAC_SAMPLER_INTERVAL_MS + 2) * MS), 0);
	/* More things at once than it knows: the rest is not told, and none of
	 * those that are known is told twice. */
	memset(&sampler, 0, sizeof(sampler));
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "%d", i);
		assert_int_equal(vac_sampler_take(&sampler, name, 1, MS),
				 i < VAC_SAMPLER_SLOTS ? 1 : 0);
	}
	assert_int_equal(vac_sampler_take(&sampler, "0", 1, 2 * MS), 0);
	assert_int_equal(vac_sampler_take(&sampler, "199", 1, (VAC_SAMPLER_INTERVAL_MS + 1) * MS),
			 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ring),           cmocka_unit_test(test_stream),
		cmocka_unit_test(test_only_one_model), cmocka_unit_test(test_state_and_changes),
		cmocka_unit_test(test_too_slow),       cmocka_unit_test(test_most),
		cmocka_unit_test(test_llama_shape),    cmocka_unit_test(test_sampler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
