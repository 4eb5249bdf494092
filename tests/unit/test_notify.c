/*
 * test_notify.c - what a service manager is told, read from a socket in its
 * place. Messages and variables are those of sd_notify(3) and
 * sd_watchdog_enabled(3).
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "server/notify.h"
#include "temp_dir.h"

#define MS INT64_C(1000000)

static struct vac_loop loop;
static struct vac_timer end;
static const char *line = "";

static int64_t no_settle(void *ctx)
{
	(void)ctx;
	return -1;
}

static void stop(struct vac_timer *timer)
{
	(void)timer;
	vac_loop_stop(&loop);
}

static void describe(void *ctx, char *to, size_t room)
{
	(void)ctx;
	snprintf(to, room, "%s", line);
}

static int manager(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, name);
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	assert_int_equal(bind(fd, (struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) +
					  (name[0] == '/'))),
			 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	return fd;
}

/* The next message, or "" when there is none. */
static const char *heard(int fd)
{
	static char text[1024];
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void begin(struct vac_notify *notify)
{
	struct vac_error err;

	assert_int_equal(vac_loop_init(&loop, &err), 0);
	loop.settle = no_settle;
	assert_int_equal(vac_timer_open(&loop, &end, stop), 0);
	assert_int_equal(vac_notify_open(notify, &loop, &err), 0);
	notify->describe = describe;
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_null(getenv("WATCHDOG_USEC"));
	assert_null(getenv("WATCHDOG_PID"));
}

static void turn_for(int64_t ns)
{
	struct vac_error err;

	loop.stopped = false;
	vac_timer_set(&loop, &end, vac_now_ns() + ns);
	assert_int_equal(vac_loop_run(&loop, &err), 0);
}

static void finish(struct vac_notify *notify)
{
	vac_notify_close(notify);
	vac_timer_close(&loop, &end);
	assert_int_equal(loop.timer_opened, 0);
	vac_loop_free(&loop);
}

static void test_messages(void **state)
{
	struct vac_notify notify;
	int64_t before_us, after_us, said_us;
	int fd, end_at = 0;

	(void)state;
	temp_dir_make();
	fd = manager(temp_path("socket"));
	begin(&notify);
	line = "0 models resident";
	vac_notify_ready(&notify);
	assert_string_equal(heard(fd), "READY=1\nSTATUS=0 models resident\n");
	before_us = vac_now_ns() / 1000;
	vac_notify_reloading(&notify);
	after_us = vac_now_ns() / 1000;
	assert_int_equal(
		sscanf(heard(fd), "RELOADING=1\nMONOTONIC_USEC=%" SCNd64 "\n%n", &said_us, &end_at),
		1);
	assert_true(end_at > 0 && said_us >= before_us && said_us <= after_us);
	line = "bad\nREADY=1"; /* one line, whatever a name holds */
	vac_notify_ready(&notify);
	assert_string_equal(heard(fd), "READY=1\nSTATUS=bad?READY=1\n");
	line = "ending";
	vac_notify_stopping(&notify);
	assert_string_equal(heard(fd), "STOPPING=1\nSTATUS=ending\n");
	assert_string_equal(heard(fd), "EXTEND_TIMEOUT_USEC=20000000\n");
	assert_true(vac_timer_is_set(&notify.drain));
	assert_true(notify.drain.at_ns <= vac_now_ns() + 5000 * MS);
	assert_string_equal(heard(fd), "");
	finish(&notify);
	close(fd);
	temp_dir_remove();
}

static void test_abstract_socket(void **state)
{
	struct vac_notify notify;
	char name[64];
	int fd;

	(void)state;
	snprintf(name, sizeof(name), "@vacate-test-%d", (int)getpid());
	fd = manager(name);
	begin(&notify);
	line = "";
	vac_notify_ready(&notify);
	assert_string_equal(heard(fd), "READY=1\nSTATUS=\n");
	finish(&notify);
	close(fd);
}

/* At half of the interval, as long as the loop turns, and not before it is ready. */
static void test_watchdog(void **state)
{
	struct vac_notify notify;
	int64_t start_ns, took_ns;
	char pid[24];
	int fd, count = 0;

	(void)state;
	temp_dir_make();
	fd = manager(temp_path("socket"));
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_USEC", "100000", 1);
	setenv("WATCHDOG_PID", pid, 1);
	begin(&notify);
	assert_int_equal(notify.watchdog_ns, 50 * MS);
	turn_for(120 * MS);
	assert_string_equal(heard(fd), "");
	start_ns = vac_now_ns();
	vac_notify_ready(&notify);
	vac_notify_ready(&notify);    /* after a reload: no second clock */
	for (int i = 0; i < 5; i++) { /* a socket keeps ten messages */
		turn_for(200 * MS);
		while (*heard(fd))
			count++;
	}
	/* 2 x READY=1 and one sign of life at once, then at most one in 50 ms, in whatever
	 * time it took; in most of 100 ms, or the manager would have killed us. */
	took_ns = vac_now_ns() - start_ns;
	assert_in_range(count, 2 + 1 + 10, 2 + 1 + took_ns / (50 * MS));
	usleep(120000); /* the loop does not turn */
	assert_string_equal(heard(fd), "");
	finish(&notify);
	close(fd);
	temp_dir_remove();
}

static void test_watchdog_of_others(void **state)
{
	static const struct {
		const char *interval, *pid;
		int64_t ns;
	} cases[] = {
		{"3000000", NULL, 1500 * MS},
		{"3000000", "1", 0},
		{"3000000", "x", 0},
		{"3000000", "", 0},
		{"0", NULL, 0},
		{"-1", NULL, 0},
		{"1s", NULL, 0},
		{"", NULL, 0},
		{"18446744073709551615", NULL, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_notify notify;
		int fd;

		temp_dir_make();
		fd = manager(temp_path("socket"));
		setenv("WATCHDOG_USEC", cases[i].interval, 1);
		if (cases[i].pid)
			setenv("WATCHDOG_PID", cases[i].pid, 1);
		begin(&notify);
		assert_int_equal(notify.watchdog_ns, cases[i].ns);
		finish(&notify);
		close(fd);
		temp_dir_remove();
	}
}

/* Told soon, at most once a second, and only when the line is another. */
static void test_status(void **state)
{
	struct vac_notify notify;
	int fd;

	(void)state;
	temp_dir_make();
	fd = manager(temp_path("socket"));
	begin(&notify);
	line = "one";
	vac_notify_ready(&notify);
	assert_string_equal(heard(fd), "READY=1\nSTATUS=one\n");
	line = "two";
	vac_notify_changed(&notify);
	vac_notify_changed(&notify);
	turn_for(700 * MS);
	assert_string_equal(heard(fd), "");
	line = "three";
	vac_notify_changed(&notify);
	turn_for(500 * MS);
	assert_string_equal(heard(fd), "STATUS=three\n");
	vac_notify_changed(&notify);
	turn_for(1100 * MS);
	assert_string_equal(heard(fd), "");
	finish(&notify);
	close(fd);
	temp_dir_remove();
}

/* Nobody to tell, or nobody that could be told: nothing happens. */
static void test_nobody(void **state)
{
	static const char *const names[] = {
		NULL, "", "relative", "@", "/", "vsock:2:1234", "/nonexistent/notify"};
	char name[200];

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	for (size_t i = 0; i <= sizeof(names) / sizeof(names[0]); i++) {
		const char *to = i < sizeof(names) / sizeof(names[0]) ? names[i] : name;
		struct vac_notify notify;

		unsetenv("NOTIFY_SOCKET");
		if (to)
			setenv("NOTIFY_SOCKET", to, 1);
		setenv("WATCHDOG_USEC", "100000", 1);
		begin(&notify);
		assert_true((notify.fd >= 0) == (to && strcmp(to, "/nonexistent/notify") == 0));
		vac_notify_ready(&notify);
		vac_notify_reloading(&notify);
		vac_notify_changed(&notify);
		vac_notify_stopping(&notify);
		finish(&notify);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages), cmocka_unit_test(test_abstract_socket),
		cmocka_unit_test(test_watchdog), cmocka_unit_test(test_watchdog_of_others),
		cmocka_unit_test(test_status),   cmocka_unit_test(test_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
