/*
 * libraries.c - libcuda.so.1, libcublasLt.so.13 and libnvrtc.so.13 in one file, for
 * end-to-end tests: the fake GPU of tests/unit/fake_cuda.c, which computes float32 on the
 * processor. Found by LD_LIBRARY_PATH under its three names and never installed.
 *
 * When it is loaded it tries what NVIDIA's libraries try and can do without, so that a
 * sandbox around it is met: it looks for a daemon and reads a file of the system's. It
 * reads one that it needs and listens on a socket, and does not start without both. Who
 * connects is told who he is, and handed a descriptor.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../unit/fake_cuda.h"
#include "../../unit/fake_tables.h"

#define EXPORT __attribute__((visibility("default")))

static int refuse(void)
{
	return VAC_CU_NOT_SUPPORTED;
}

/* The tables are known when a symbol is looked up, not before. */
#define FORWARD(table, prefix, member, symbol, parameters)                                         \
	__attribute__((used)) static int(*resolve_##prefix##member(void)) parameters               \
	{                                                                                          \
		int(*function) parameters = table.member;                                          \
		int (*none)(void) = refuse;                                                        \
		if (!function) /* a symbol all the same */                                         \
			memcpy(&function, &none, sizeof(function));                                \
		return function;                                                                   \
	}                                                                                          \
	EXPORT extern int prefix##member parameters __asm__(symbol)                                \
		__attribute__((ifunc("resolve_" #prefix #member)));
#define FORWARD_BLAS(member, symbol, parameters)                                                   \
	FORWARD(fake_blas_table, blas_, member, symbol, parameters)
#define FORWARD_NVRTC(member, symbol, parameters)                                                  \
	FORWARD(fake_nvrtc_table, nvrtc_, member, symbol, parameters)
VAC_BLAS_FUNCTIONS(FORWARD_BLAS)
VAC_NVRTC_FUNCTIONS(FORWARD_NVRTC)

EXPORT int cuGetProcAddress_v2(const char *symbol, void **out, int version,
			       unsigned long long flags, int *status);

int cuGetProcAddress_v2(const char *symbol, void **out, int version, unsigned long long flags,
			int *status)
{
	static const struct {
		const char *symbol;
		size_t offset;
	} all[] = {
#define ENTRY(member, symbol_, version_, parameters) {symbol_, offsetof(struct vac_cuda, member)},
		VAC_CUDA_FUNCTIONS(ENTRY)
#undef ENTRY
	};
	int (*none)(void) = refuse;
	(void)version, (void)flags;
	*status = 0;
	*out = NULL;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (strcmp(all[i].symbol, symbol) == 0)
			memcpy(out, (const char *)&fake_cuda_table + all[i].offset, sizeof(*out));
	if (!*out)
		memcpy(out, &none, sizeof(*out));
	return VAC_CU_OK;
}

static int open_socket(void)
{
	const int one = 1;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* One message of the peer's, and an answer. */
static void answer(int peer)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	char text[64];
	struct iovec part = {.iov_base = text, .iov_len = sizeof(text)};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	struct ucred who = {0};
	socklen_t bytes = sizeof(who);
	int event;
	if (recvmsg(peer, &message, MSG_CMSG_CLOEXEC) < 0 ||
	    getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &bytes) != 0)
		return;
	event = eventfd(0, EFD_CLOEXEC);
	part.iov_len = (size_t)snprintf(text, sizeof(text), "%d %d", (int)who.pid, (int)who.uid);
	message.msg_controllen = CMSG_SPACE(sizeof(event));
	control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(event)),
					  .cmsg_level = SOL_SOCKET,
					  .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.header), &event, sizeof(event));
	(void)!sendmsg(peer, &message, MSG_NOSIGNAL);
	close(event);
}

/* As NVIDIA's does, an error of accept is not looked at. */
static void *serve(void *socket)
{
	struct pollfd listener = {.fd = (int)(intptr_t)socket, .events = POLLIN};
	for (;;) {
		int peer = poll(&listener, 1, -1) > 0
				   ? accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC)
				   : -1;
		if (peer < 0)
			continue;
		answer(peer);
		close(peer);
	}
	return NULL;
}

/* As NVIDIA's does: a daemon is asked in vain, and a socket of its own must be had. */
static int listen_to_others(void)
{
	const struct sockaddr_un daemon = {.sun_family = AF_UNIX,
					   .sun_path = "/tmp/nvidia-mps/control"};
	struct sockaddr_un own = {.sun_family = AF_UNIX};
	int fd = open_socket(), length;
	pthread_t thread;
	if (fd < 0)
		return -1;
	(void)!connect(fd, (const struct sockaddr *)&daemon, sizeof(daemon));
	close(fd);
	(void)!symlink("nowhere", "/proc/self/fake-gpu");
	fd = open_socket();
	length = snprintf(own.sun_path + 1, sizeof(own.sun_path) - 1, "cuda-uvmfd-0-%d",
			  (int)getpid());
	if (bind(fd, (const struct sockaddr *)&own,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) != 0)
		return -1;
	if (listen(fd, 128) != 0)
		return -1;
	return pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd);
}

static long takings; /* of the device's memory, until the GPU is lost */

static void take(void)
{
	if (--takings > 0)
		return;
	fake_cuda.fail_at = fake_cuda.calls;
	fake_cuda.fail_with = VAC_CU_ECC_UNCORRECTABLE;
	fake_cuda.fail_lasts = 1;
	fake_cuda.taking = NULL;
}

__attribute__((constructor)) static void load(void)
{
	/* names that a confined worker keeps */
	const char *slow = getenv("CUDA_FAKE_SLOW"), *lost = getenv("CUDA_FAKE_LOST");
	int fd;
	fake_cuda_reset();
	fake_cuda.major = 8; /* nothing is compiled ahead for it */
	fake_cuda.minor = 6;
	/* so often a batch is asked for in vain; "hangs": always */
	if (slow && strcmp(slow, "hangs") == 0)
		fake_cuda.hangs = true;
	else if (slow)
		fake_cuda.slow = atol(slow);
	/* the number of the context or region that finds it lost, from 1 */
	takings = lost ? atol(lost) : 0;
	if (takings > 0)
		fake_cuda.taking = take;
	fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	if (listen_to_others() != 0)
		fake_cuda.devices = 0;
	fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fake_cuda.devices = 0;
	else
		close(fd);
}
