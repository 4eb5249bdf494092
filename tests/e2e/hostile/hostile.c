/*
 * hostile.c - a backend that turns against its worker: what a crafted model could
 * make a worker do if the engine had a hole.
 *
 * It computes as the reference does, except that pooling carries out the attempt
 * whose number is the first token id of each sequence and writes what came of it
 * as the first component of the vector: a negative errno, or 0 and more. So a test
 * asks for attempts over HTTP, from outside. What they aim at is read from the
 * environment when the module is loaded: HOSTILE_FILE, HOSTILE_DIR, HOSTILE_SOCKET
 * (path), HOSTILE_ABSTRACT (name), HOSTILE_PORT, HOSTILE_WORD (a secret).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/compute.h"

#ifdef HOSTILE_CUDA
#include "engine/cuda/backend.h"
#define BACKEND vac_backend_cuda
#define NAME    "cuda"
#define PLACES  vac_cuda_places
#else
#define BACKEND vac_backend_cpu
#define NAME    "cpu"
#define PLACES  NULL
#endif

static char file[512], directory[512], socket_path[108], abstract[64];
static const char *word = "";
static int port;
static pid_t server;

static long result(long rc)
{
	return rc < 0 ? -errno : rc;
}

static long nothing(void)
{
	return 7;
}

static long read_a_file(void)
{
	return result(open(file, O_RDONLY));
}

static long read_a_file_by_openat2(void)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = {O_RDONLY, 0, 0};

	return result(syscall(437, AT_FDCWD, file, &how, sizeof(how)));
}

static long look_at_a_file(void)
{
	struct stat st;

	return result(stat(file, &st));
}

static long list_a_directory(void)
{
	return result(open(directory, O_RDONLY | O_DIRECTORY));
}

static long write_a_file(void)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/written", directory);
	return result(open(path, O_WRONLY | O_CREAT, 0600));
}

static long remove_a_file(void)
{
	return result(syscall(SYS_unlinkat, AT_FDCWD, file, 0));
}

static long connect_tcp(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return result(connect(fd, (struct sockaddr *)&to, sizeof(to)));
}

static long connect_unix(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	memcpy(to.sun_path, socket_path, sizeof(to.sun_path));
	return result(connect(fd, (struct sockaddr *)&to, sizeof(to)));
}

static long connect_abstract(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t n = strlen(abstract);

	if (fd < 0)
		return -errno;
	memcpy(to.sun_path + 1, abstract, n);
	return result(connect(fd, (struct sockaddr *)&to,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)));
}

/* The kind of socket that the driver may have. */
static long connect_of_the_driver_s_kind(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	long rc;

	if (fd < 0)
		return -1000 - errno;
	memcpy(to.sun_path, socket_path, sizeof(to.sun_path));
	rc = result(connect(fd, (struct sockaddr *)&to, sizeof(to)));
	close(fd);
	return rc;
}

static long bind_a_path(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	long rc;

	if (fd < 0)
		return -1000 - errno;
	snprintf(to.sun_path, sizeof(to.sun_path), "%.100s/bound", directory);
	rc = result(bind(fd, (struct sockaddr *)&to, sizeof(to)));
	close(fd);
	return rc;
}

static long take_a_connection(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int length =
		snprintf(to.sun_path + 1, sizeof(to.sun_path) - 1, "hostile-%d", (int)getpid());
	long rc = -1000;

	if (fd >= 0 &&
	    bind(fd, (struct sockaddr *)&to,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) == 0 &&
	    listen(fd, 1) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0)
		rc = result(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
	close(fd);
	return rc;
}

/* A descriptor of the worker's to the server, or to where standard error goes. */
static long send_a_descriptor(int socket)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS}};
	struct iovec nothing = {.iov_base = NULL, .iov_len = 0};
	struct msghdr message = {.msg_iov = &nothing,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};

	return result(sendmsg(socket, &message, MSG_DONTWAIT));
}

static long send_the_server_a_descriptor(void)
{
	return send_a_descriptor(3);
}

static long send_standard_error_a_descriptor(void)
{
	return send_a_descriptor(2);
}

static long connect_the_worker_s_socket(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};

	return result(connect(3, (struct sockaddr *)&to, sizeof(to)));
}

static long send_to_an_address(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};

	return result(sendto(3, "", 0, 0, (struct sockaddr *)&to, sizeof(to)));
}

static long run_a_program(void)
{
	char *args[] = {(char *)(uintptr_t) "true", NULL};

	return result(execve("/bin/true", args, args + 1));
}

static long fork_a_process(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(0);
	return result(pid);
}

static long trace_the_server(void)
{
	return result(ptrace(PTRACE_SEIZE, server, NULL, NULL));
}

static long signal_the_server(void)
{
	return result(kill(server, 0));
}

static long signal_a_thread_of_the_server(void)
{
	return result(syscall(SYS_tgkill, server, server, 0));
}

static long open_the_server_s_memory(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)server);
	return result(open(path, O_RDONLY));
}

static long read_the_server_s_memory(void)
{
	char byte;
	struct iovec own = {&byte, 1}, other = {(void *)(uintptr_t)word, 1};

	return result(process_vm_readv(server, &own, 1, &other, 1, 0));
}

static long map_code(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page == MAP_FAILED ? -errno : 0;
}

static long make_data_code(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page == MAP_FAILED ? -errno : result(mprotect(page, 4096, PROT_READ | PROT_EXEC));
}

static long make_a_file_in_memory(void)
{
	return result(syscall(SYS_memfd_create, "x", 0));
}

static long make_a_ring(void)
{
	char parameters[120] = {0};

	return result(syscall(SYS_io_uring_setup, 4, parameters));
}

static long load_a_bpf_program(void)
{
	return result(syscall(SYS_bpf, 0, NULL, 0));
}

static long mount_a_file_system(void)
{
	return result(syscall(SYS_mount, "none", directory, "tmpfs", 0, NULL));
}

static long take_a_namespace(void)
{
	return result(syscall(SYS_unshare, CLONE_NEWUSER));
}

static long ask_the_keyring(void)
{
	return result(syscall(SYS_keyctl, 0, -3, 0, 0, 0));
}

static long catch_faults(void)
{
	return result(syscall(SYS_userfaultfd, 0));
}

static long take_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct all[2] = {{~0u, ~0u, 0}, {~0u, ~0u, 0}};

	return result(syscall(SYS_capset, &header, all));
}

static long disarm_the_filter(void)
{
	return result(signal(SIGSYS, SIG_IGN) == SIG_ERR ? -1 : 0);
}

static long read_standard_error(void)
{
	char byte;

	return result(read(2, &byte, 1));
}

static long type_on_the_terminal(void)
{
	return result(ioctl(2, TIOCSTI, "x"));
}

static long read_its_environment(void)
{
	return result(open("/proc/self/environ", O_RDONLY));
}

static long write_its_memory(void)
{
	return result(open("/proc/self/mem", O_RDWR));
}

static long write_standard_output(void)
{
	return result(write(1, "", 0));
}

/* The secret was in the environment: is it still where it lay? */
static long find_the_word(void)
{
	for (char **at = environ; at && *at; at++) {
		if (strncmp(*at, "HOSTILE_", 8) == 0)
			return -EEXIST;
	}
	return (long)strlen(word);
}

static long count_descriptors(void)
{
	long count = 0;

	for (int fd = 0; fd < 4096; fd++)
		count += fcntl(fd, F_DUPFD_CLOEXEC, 4095) >= 0 && close(4095) == 0 ? 1
			 : errno == EPERM                                          ? 1
										   : 0;
	return count;
}

static void *in_a_thread(void *ctx)
{
	return ctx;
}

static long make_a_thread(void)
{
	pthread_t thread;
	void *back = NULL;
	int rc = pthread_create(&thread, NULL, in_a_thread, &server);

	if (rc != 0)
		return -rc;
	pthread_join(thread, &back);
	return back == &server ? 1 : -EIO;
}

static long abort_itself(void)
{
	abort();
}

static long call_as_x32(void)
{
#if defined(__x86_64__)
	return result(syscall(0x40000000 | SYS_getpid));
#else
	return -ENOSYS;
#endif
}

static long call_as_i386(void)
{
#if defined(__x86_64__)
	long rc = 20; /* getpid there, writev here */

	__asm__ volatile("int $0x80" : "+a"(rc) : : "memory", "r8", "r9", "r10", "r11");
	return rc;
#else
	return -ENOSYS;
#endif
}

#define ATTEMPT(name)                                                                              \
	{                                                                                          \
#name, name                                                                        \
	}
static const struct attempt {
	const char *name;
	long (*make)(void);
} attempts[] = {
	ATTEMPT(nothing),
	ATTEMPT(read_a_file),
	ATTEMPT(read_a_file_by_openat2),
	ATTEMPT(look_at_a_file),
	ATTEMPT(list_a_directory),
	ATTEMPT(write_a_file),
	ATTEMPT(remove_a_file),
	ATTEMPT(connect_tcp),
	ATTEMPT(connect_unix),
	ATTEMPT(connect_abstract),
	ATTEMPT(connect_of_the_driver_s_kind),
	ATTEMPT(bind_a_path),
	ATTEMPT(take_a_connection),
	ATTEMPT(send_the_server_a_descriptor),
	ATTEMPT(send_standard_error_a_descriptor),
	ATTEMPT(connect_the_worker_s_socket),
	ATTEMPT(send_to_an_address),
	ATTEMPT(run_a_program),
	ATTEMPT(fork_a_process),
	ATTEMPT(trace_the_server),
	ATTEMPT(signal_the_server),
	ATTEMPT(signal_a_thread_of_the_server),
	ATTEMPT(open_the_server_s_memory),
	ATTEMPT(read_the_server_s_memory),
	ATTEMPT(map_code),
	ATTEMPT(make_data_code),
	ATTEMPT(make_a_file_in_memory),
	ATTEMPT(make_a_ring),
	ATTEMPT(load_a_bpf_program),
	ATTEMPT(mount_a_file_system),
	ATTEMPT(take_a_namespace),
	ATTEMPT(ask_the_keyring),
	ATTEMPT(catch_faults),
	ATTEMPT(take_capabilities),
	ATTEMPT(disarm_the_filter),
	ATTEMPT(read_standard_error),
	ATTEMPT(type_on_the_terminal),
	ATTEMPT(read_its_environment),
	ATTEMPT(write_its_memory),
	ATTEMPT(write_standard_output),
	ATTEMPT(find_the_word),
	ATTEMPT(count_descriptors),
	ATTEMPT(make_a_thread),
	ATTEMPT(abort_itself),
	ATTEMPT(call_as_x32),
	ATTEMPT(call_as_i386),
};
#define ATTEMPT_COUNT ((int32_t)(sizeof(attempts) / sizeof(attempts[0])))

static void pool(struct vac_compute *c, enum vac_pooling pooling, const struct vac_tokens *tokens,
		 uint32_t hidden, const void *x, void *out)
{
	vac_backend_reference.pool(c, pooling, tokens, hidden, x, out);
	for (uint32_t s = 0; s < tokens->sequences; s++) {
		int32_t id = tokens->ids[tokens->starts[s]];

		if (id >= 0 && id < ATTEMPT_COUNT)
			((float *)out)[(size_t)s * hidden] = (float)attempts[id].make();
	}
}

/* The compiler must not know what is in it: the worker looks it up by name. */
__attribute__((visibility("default"))) struct vac_backend BACKEND;

static void copy(char *to, size_t room, const char *variable)
{
	const char *value = getenv(variable);

	snprintf(to, room, "%s", value ? value : "");
}

/* For the test: the numbers of the attempts, when HOSTILE_LIST names a file. */
static void write_list(const char *path)
{
	FILE *list = path ? fopen(path, "w") : NULL;

	for (int32_t i = 0; list && i < ATTEMPT_COUNT; i++)
		fprintf(list, "%s\n", attempts[i].name);
	if (list)
		fclose(list);
}

__attribute__((constructor)) static void load(void)
{
	const char *number = getenv("HOSTILE_PORT");

	BACKEND = vac_backend_reference;
	BACKEND.name = NAME;
	BACKEND.pool = pool;
	BACKEND.places = PLACES;
	server = getppid();
	port = number ? atoi(number) : 0;
	copy(file, sizeof(file), "HOSTILE_FILE");
	copy(directory, sizeof(directory), "HOSTILE_DIR");
	copy(socket_path, sizeof(socket_path), "HOSTILE_SOCKET");
	copy(abstract, sizeof(abstract), "HOSTILE_ABSTRACT");
	if (getenv("HOSTILE_WORD"))
		word = getenv("HOSTILE_WORD");
	write_list(getenv("HOSTILE_LIST"));
}
