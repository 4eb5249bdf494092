/*
 * test_channel.c - how much of what a worker says is read at once. The worker is
 * the other end of a socket pair.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/channel.h"

/* More than a turn reads, less than a socket holds. */
#define MOST_BYTES ((size_t)160 << 10)

struct pair {
	struct vac_loop loop;
	struct vac_supervisor supervisor;
	struct vac_worker worker;
	int other; /* the worker's end */
};

static int make(void **state)
{
	static struct pair pair;
	struct vac_error err;
	int fds[2], room = 1 << 20;

	memset(&pair, 0, sizeof(pair));
	assert_int_equal(vac_loop_init(&pair.loop, &err), 0);
	vac_supervisor_init(&pair.supervisor, &pair.loop,
			    &(struct vac_supervisor_options){.heartbeat_ms = 1000});
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	pair.worker = (struct vac_worker){
		.supervisor = &pair.supervisor, .state = VAC_WORKER_READY, .pidfd = -1};
	pair.worker.socket.fd = fds[0];
	pair.other = fds[1];
	assert_int_equal(vac_channel_open(&pair.worker, &err), 0);
	*state = &pair;
	return 0;
}

static int clean(void **state)
{
	struct pair *pair = *state;

	vac_channel_close(&pair->worker);
	close(pair->other);
	vac_loop_free(&pair->loop);
	return 0;
}

/* PONGs until the socket takes no more. */
static void chatter(const struct pair *pair)
{
	static uint8_t frames[(32 << 10) / VAC_WIRE_HEADER_BYTES * VAC_WIRE_HEADER_BYTES];
	struct vac_buf pong = VAC_BUF_INIT;
	ssize_t n;

	vac_wire_put_empty(&pong, VAC_WIRE_PONG, 1);
	assert_int_equal(pong.bytes, VAC_WIRE_HEADER_BYTES);
	for (size_t i = 0; i < sizeof(frames); i++)
		frames[i] = pong.data[i % VAC_WIRE_HEADER_BYTES];
	vac_buf_free(&pong);
	do {
		n = send(pair->other, frames, sizeof(frames), MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n == (ssize_t)sizeof(frames));
}

static size_t unread(const struct pair *pair)
{
	int bytes = -1;

	assert_int_equal(ioctl(pair->worker.socket.fd, FIONREAD, &bytes), 0);
	return (size_t)bytes;
}

/* One that says more than is read in a turn does not hold up the others. */
static void test_a_turn_ends(void **state)
{
	struct pair *pair = *state;
	size_t before, turns = 0;

	chatter(pair);
	before = unread(pair);
	assert_true(before > MOST_BYTES);
	for (size_t left; before > 0; before = left, turns++) {
		vac_channel_read(&pair->worker);
		left = unread(pair);
		assert_true(left < before && before - left <= MOST_BYTES);
	}
	assert_true(turns > 1);
	assert_int_equal(pair->worker.state, VAC_WORKER_READY);
}

/* What one said before it ended is read whole. */
static void test_last_words(void **state)
{
	struct pair *pair = *state;

	chatter(pair);
	assert_true(unread(pair) > MOST_BYTES);
	vac_channel_read_last(&pair->worker);
	assert_int_equal(unread(pair), 0);
	assert_int_equal(pair->worker.state, VAC_WORKER_READY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_turn_ends, make, clean),
		cmocka_unit_test_setup_teardown(test_last_words, make, clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
