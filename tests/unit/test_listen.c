/*
 * test_listen.c - where the server listens: which addresses other machines
 * reach, Unix sockets of dead and living servers, and each refusal.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/access.h"
#include "server/listen.h"
#include "temp_dir.h"

static bool is_local(const char *text)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return vac_address_is_local((struct sockaddr *)&v4);
	assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
	return vac_address_is_local((struct sockaddr *)&v6);
}

static void test_local_addresses(void **state)
{
	static const char *const local[] = {"127.0.0.1", "127.255.255.254", "::1",
					    "::ffff:127.0.0.1"};
	static const char *const open[] = {"0.0.0.0",   "128.0.0.1", "126.255.255.255", "10.0.0.1",
					   "::",        "::2",       "::ffff:10.0.0.1", "fe80::1",
					   "1.0.0.127", "7f00::1",   "::ffff:0.0.0.0"};

	(void)state;
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
		assert_true(is_local(local[i]));
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		assert_false(is_local(open[i]));
	assert_true(vac_address_is_local(&(struct sockaddr){.sa_family = AF_UNIX}));
	assert_false(vac_address_is_local(&(struct sockaddr){.sa_family = AF_NETLINK}));
}

static int try_host(const char *host, bool open_to_all, struct vac_listeners *listeners,
		    struct vac_error *err)
{
	struct vac_listen_options options = {.host = host, .open_to_all = open_to_all};

	memset(err, 0, sizeof(*err));
	return vac_listeners_open(listeners, &options, err);
}

static void test_refusals(void **state)
{
	static const struct {
		const char *host, *where;
	} cases[] = {
		{"0.0.0.0", "--host 0.0.0.0 can be reached from other machines"},
		{"::", "--host :: can be reached from other machines"},
		{"[::]", "can be reached from other machines"},
		{"127.0.0.1,0.0.0.0", "--host 0.0.0.0 can be reached"},
		{"", "an address between the commas is missing"},
		{"127.0.0.1,", "an address between the commas is missing"},
		{"300.1.2.3", "--host 300.1.2.3 is no address of this machine"},
		{"unix:", "write unix:/PATH"},
		{"unix:relative", "unix:relative: write unix:/PATH"},
		{"unix:@name", "write unix:/PATH"},
		{"unix:/nonexistent/folder/socket", "unix:/nonexistent/folder/socket: "},
	};
	struct vac_listeners listeners;
	struct vac_error err;
	int before = count_fds();

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_true(try_host(cases[i].host, false, &listeners, &err) < 0);
		if (!strstr(err.message, cases[i].where))
			fail_msg("%s: %s", cases[i].host, err.message);
		assert_null(strchr(err.message, '\n'));
		assert_int_equal(count_fds(), before);
	}
	/* What to do about it. */
	try_host("0.0.0.0", false, &listeners, &err);
	assert_non_null(strstr(err.message, "--api-key-file"));
	assert_non_null(strstr(err.message, "--allow-no-key"));
}

static void test_long_path(void **state)
{
	char host[5 + 1 + 200] = "unix:/";
	struct vac_listeners listeners;
	struct vac_error err;

	(void)state;
	memset(host + 6, 'x', 107);
	host[5 + 108] = '\0';
	assert_int_equal(try_host(host, false, &listeners, &err), -EINVAL);
	assert_non_null(
		strstr(err.message, "the path has 108 bytes where the system takes at most 107"));
}

/* So many of the binds to 127.0.0.1 find their port taken. */
static int taken;

int __real_bind(int fd, const struct sockaddr *address, socklen_t bytes);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t bytes);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t bytes)
{
	const struct sockaddr_in *v4 = (const void *)address;

	if (taken > 0 && address->sa_family == AF_INET && v4->sin_port != 0 &&
	    v4->sin_addr.s_addr == htonl(INADDR_LOOPBACK)) {
		taken--;
		errno = EADDRINUSE;
		return -1;
	}
	return __real_bind(fd, address, bytes);
}

/* Any free port is one that is free at all of the addresses; and a port that was asked for is
 * no other. */
static void test_one_port_for_all(void **state)
{
	struct vac_listeners listeners;
	struct vac_listen_options options = {.host = "127.0.0.2,127.0.0.1"};
	struct vac_error err = {0};
	const char *ports[2];

	(void)state;
	taken = 3;
	assert_int_equal(vac_listeners_open(&listeners, &options, &err), 0);
	assert_int_equal(taken, 0);
	assert_int_equal(listeners.count, 2);
	for (int i = 0; i < 2; i++)
		ports[i] = strrchr(listeners.items[i].address, ':');
	assert_string_equal(ports[0], ports[1]);
	options.port = (uint16_t)strtoul(ports[0] + 1, NULL, 10);
	vac_listeners_close(&listeners);
	taken = 1;
	assert_true(vac_listeners_open(&listeners, &options, &err) < 0);
	assert_int_equal(err.code, VAC_E_BUSY);
	assert_int_equal(taken, 0);
	options.port = 0;
	taken = 1000;
	assert_true(vac_listeners_open(&listeners, &options, &err) < 0);
	assert_int_equal(err.code, VAC_E_BUSY);
	assert_in_range(taken, 900, 999);
	taken = 0;
}

static void test_several(void **state)
{
	struct vac_listeners listeners;
	struct vac_error err;
	char host[256], path[128];
	struct stat st;
	int before;

	(void)state;
	temp_dir_make();
	before = count_fds();
	snprintf(path, sizeof(path), "%s", temp_path("socket"));
	snprintf(host, sizeof(host), "127.0.0.1, unix:%s,127.0.0.2", path);
	assert_int_equal(try_host(host, false, &listeners, &err), 0);
	assert_int_equal(listeners.count, 3);
	assert_memory_equal(listeners.items[0].address, "http://127.0.0.1:", 17);
	assert_string_equal(listeners.items[1].address + 5, path);
	/* One port for all. */
	assert_memory_equal(listeners.items[2].address, "http://127.0.0.2:", 17);
	assert_string_equal(listeners.items[2].address + 17, listeners.items[0].address + 17);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	vac_listeners_close(&listeners);
	vac_listeners_close(&listeners);
	assert_int_equal(lstat(path, &st), -1);
	assert_int_equal(count_fds(), before);
	/* Nothing is left of those before the one that was refused. */
	snprintf(host, sizeof(host), "unix:%s,127.0.0.1,0.0.0.0", path);
	assert_int_equal(try_host(host, false, &listeners, &err), -EINVAL);
	assert_int_equal(lstat(path, &st), -1);
	assert_int_equal(count_fds(), before);
	temp_dir_remove();
}

/* A dead server's socket: bound, and nobody listens. */
static void leave_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

static void test_stale_and_living(void **state)
{
	struct vac_listeners first, second;
	struct vac_error err;
	char host[256], path[128];
	struct stat st;

	(void)state;
	temp_dir_make();
	snprintf(path, sizeof(path), "%s", temp_path("socket"));
	snprintf(host, sizeof(host), "unix:%s", path);
	leave_socket(path);
	assert_int_equal(try_host(host, false, &first, &err), 0);
	assert_int_equal(try_host(host, false, &second, &err), -EAGAIN);
	assert_int_equal(err.code, VAC_E_BUSY);
	assert_non_null(strstr(err.message, "another server listens there"));
	assert_int_equal(lstat(path, &st), 0);
	/* The file of another: ours has gone, and it is not ours to remove. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(try_host(host, false, &second, &err), 0);
	vac_listeners_close(&first);
	assert_int_equal(lstat(path, &st), 0);
	vac_listeners_close(&second);
	assert_int_equal(lstat(path, &st), -1);
	/* What is no socket is never removed. */
	temp_text("socket", "precious");
	assert_int_equal(try_host(host, false, &first, &err), -EINVAL);
	assert_non_null(strstr(err.message, "no socket"));
	assert_int_equal(lstat(path, &st), 0);
	temp_unlink("socket");
	temp_symlink("elsewhere", "socket");
	assert_int_equal(try_host(host, false, &first, &err), -EINVAL);
	assert_int_equal(lstat(path, &st), 0);
	temp_dir_remove();
}

/* What systemd hands over comes in place of --host. Its descriptors begin at 3,
 * so a child of this process plays the server. */
static int inherit(int fd, const char *pid, const char *count, char *message, size_t room)
{
	struct vac_listen_options options = {.host = "unix:/nonexistent/other"};
	struct vac_listeners listeners;
	struct vac_error err = {0};
	char own[24];
	int report[2], status;
	pid_t child;
	ssize_t n;

	assert_int_equal(pipe(report), 0);
	child = fork();
	if (child == 0) {
		int saved = dup2(report[1], 100);

		snprintf(own, sizeof(own), "%d", (int)getpid());
		dup2(fd, 3);
		setenv("LISTEN_PID", pid ? pid : own, 1);
		setenv("LISTEN_FDS", count, 1);
		setenv("LISTEN_FDNAMES", "a", 1);
		if (vac_listeners_open(&listeners, &options, &err) == 0)
			snprintf(err.message, sizeof(err.message), "%s",
				 listeners.items[0].address);
		if (getenv("LISTEN_FDS") || getenv("LISTEN_PID") || getenv("LISTEN_FDNAMES"))
			strcpy(err.message, "variables are left");
		_exit(write(saved, err.message, strlen(err.message)) < 0);
	}
	close(report[1]);
	n = read(report[0], message, room - 1);
	message[n > 0 ? n : 0] = '\0';
	close(report[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	return 0;
}

static void test_systemd_sockets(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0), all = socket(AF_INET, SOCK_STREAM, 0);
	int datagrams = socket(AF_INET, SOCK_DGRAM, 0);
	char message[512];

	(void)state;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	inherit(fd, NULL, "1", message, sizeof(message));
	assert_non_null(
		strstr(message, "descriptor 3 of LISTEN_FDS is no listening stream socket"));
	assert_int_equal(listen(fd, 1), 0);
	inherit(fd, NULL, "1", message, sizeof(message));
	assert_memory_equal(message, "http://127.0.0.1:", 17);
	/* Of another process: --host holds. */
	inherit(fd, "1", "1", message, sizeof(message));
	assert_memory_equal(message, "unix:/nonexistent/other", 23);
	inherit(fd, NULL, "99", message, sizeof(message));
	assert_non_null(strstr(message, "LISTEN_FDS is no number"));
	inherit(datagrams, NULL, "1", message, sizeof(message));
	assert_non_null(strstr(message, "no listening stream socket"));
	assert_int_equal(listen(all, 1), 0); /* bound to any address by this */
	inherit(all, NULL, "1", message, sizeof(message));
	assert_non_null(strstr(message, "http://0.0.0.0:"));
	assert_non_null(strstr(message, "can be reached from other machines"));
	close(fd);
	close(all);
	close(datagrams);
}

/* ---- keys ---- */

#define KEY "0123456789abcdef"

static void test_access(void **state)
{
	static const struct {
		const char *method, *path, *authorization, *api_key;
		enum vac_access_verdict verdict;
	} cases[] = {
		{"POST", "/v1/embeddings", NULL, NULL, VAC_ACCESS_MISSING},
		{"POST", "/v1/embeddings", "Bearer " KEY, NULL, VAC_ACCESS_GRANTED},
		{"POST", "/v1/embeddings", "bEARER \t " KEY " ", NULL, VAC_ACCESS_GRANTED},
		{"POST", "/v1/embeddings", NULL, KEY, VAC_ACCESS_GRANTED},
		{"POST", "/v1/embeddings", "Basic x", KEY, VAC_ACCESS_GRANTED},
		{"POST", "/v1/embeddings", "Bearer " KEY, "wrong", VAC_ACCESS_GRANTED},
		{"POST", "/v1/embeddings", KEY, NULL, VAC_ACCESS_WRONG},
		{"POST", "/v1/embeddings", "Bearer" KEY, NULL, VAC_ACCESS_WRONG},
		{"POST", "/v1/embeddings", "Basic " KEY, NULL, VAC_ACCESS_WRONG},
		{"POST", "/v1/embeddings", "Bearer ", NULL, VAC_ACCESS_WRONG},
		{"POST", "/v1/embeddings", "Bearer", NULL, VAC_ACCESS_WRONG},
		{"POST", "/v1/embeddings", "Bearer " KEY "0", NULL, VAC_ACCESS_WRONG},
		{"POST", "/v1/embeddings", "", "", VAC_ACCESS_WRONG},
		{"GET", "/healthz", NULL, NULL, VAC_ACCESS_GRANTED},
		{"HEAD", "/healthz", "Bearer x", NULL, VAC_ACCESS_GRANTED},
		{"GET", "/health", NULL, NULL, VAC_ACCESS_GRANTED},
		{"GET", "/v2/health/live", NULL, NULL, VAC_ACCESS_GRANTED},
		{"GET", "/v2/health/ready", NULL, NULL, VAC_ACCESS_GRANTED},
		{"POST", "/healthz", NULL, NULL, VAC_ACCESS_MISSING},
		{"GET", "/healthz/", NULL, NULL, VAC_ACCESS_MISSING},
		{"GET", "/v2/health/../models", NULL, NULL, VAC_ACCESS_MISSING},
		{"GET", "/", NULL, NULL, VAC_ACCESS_MISSING},
		{"GET", "/metrics", NULL, NULL, VAC_ACCESS_MISSING},
		{"GET", "/nowhere", NULL, NULL, VAC_ACCESS_MISSING},
		{"OPTIONS", "*", NULL, NULL, VAC_ACCESS_MISSING},
	};
	uint64_t refused[3] = {0};
	struct vac_access access;
	struct vac_error err;

	(void)state;
	temp_dir_make();
	temp_text("keys", "another-key-there-is\n" KEY "\n");
	assert_int_equal(chmod(temp_path("keys"), 0600), 0);
	assert_int_equal(vac_access_open(&access, temp_path("keys"), false, &err), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (vac_access_check(&access, cases[i].method, cases[i].path,
				     cases[i].authorization, cases[i].api_key) != cases[i].verdict)
			fail_msg("case %zu", i);
		refused[cases[i].verdict]++;
	}
	assert_int_equal(access.missing, refused[VAC_ACCESS_MISSING]);
	assert_int_equal(access.wrong, refused[VAC_ACCESS_WRONG]);
	access.metrics_open = true;
	assert_int_equal(vac_access_check(&access, "GET", "/metrics", NULL, NULL),
			 VAC_ACCESS_GRANTED);
	assert_int_equal(vac_access_check(&access, "POST", "/metrics", NULL, NULL),
			 VAC_ACCESS_MISSING);
	vac_access_close(&access);
	/* Without a file anybody may ask. */
	assert_int_equal(vac_access_open(&access, NULL, false, &err), 0);
	assert_int_equal(vac_access_check(&access, "POST", "/x", NULL, NULL), VAC_ACCESS_GRANTED);
	vac_access_close(&access);
	temp_dir_remove();
}

static void test_access_reload(void **state)
{
	struct vac_access access;
	struct vac_error err;
	char path[128];

	(void)state;
	temp_dir_make();
	snprintf(path, sizeof(path), "%s", temp_path("keys"));
	assert_int_equal(vac_access_open(&access, path, false, &err), -ENOENT);
	assert_memory_equal(err.message, "--api-key-file: ", 16);
	temp_text("keys", KEY "\n");
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(vac_access_open(&access, path, false, &err), 0);
	temp_text("keys", KEY "-new\n");
	vac_access_reload(&access);
	assert_int_equal(vac_access_check(&access, "GET", "/x", NULL, KEY), VAC_ACCESS_WRONG);
	assert_int_equal(vac_access_check(&access, "GET", "/x", NULL, KEY "-new"),
			 VAC_ACCESS_GRANTED);
	temp_text("keys", "short\n");
	vac_access_reload(&access);
	temp_unlink("keys");
	vac_access_reload(&access);
	assert_int_equal(vac_access_check(&access, "GET", "/x", NULL, KEY "-new"),
			 VAC_ACCESS_GRANTED);
	assert_int_equal(access.reloads, 3);
	assert_int_equal(access.keep_olds, 2);
	vac_access_close(&access);
	temp_dir_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_local_addresses),  cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_long_path),        cmocka_unit_test(test_several),
		cmocka_unit_test(test_one_port_for_all), cmocka_unit_test(test_stale_and_living),
		cmocka_unit_test(test_systemd_sockets),  cmocka_unit_test(test_access),
		cmocka_unit_test(test_access_reload),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
