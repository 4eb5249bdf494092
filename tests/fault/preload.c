/*
 * preload.c - makes one call to the system fail: LD_PRELOADed by
 * tests/e2e/test_injection.py into `vacate serve` and its workers. Any thread.
 *
 * VACATE_FAULT names a file of struct control (below, and in the test), which
 * every process maps shared. In the processes of the armed role each call of a
 * wrapped function counts; the at-th fails with the variant-th of the errors
 * that this function can plausibly give, once. What cannot happen on Linux (an
 * error of EPOLL_CTL_MOD, of an eventfd that is far from full, of a munmap that
 * splits no mapping; EINTR of an open, where no signal has a handler) is left
 * out: it would test nothing but the test.
 *
 * glibc's calls to itself do not pass here (the mmap in malloc, the open in
 * opendir), but malloc, opendir and so on do.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum role { ROLE_NONE, ROLE_SERVER, ROLE_WORKER };
enum class { CLASS_CALLS = 1, CLASS_ALLOCATIONS = 2 };

/* Shared with the test. */
struct control {
	uint32_t role;    /* of the processes whose calls count */
	uint32_t classes; /* bits of enum class */
	uint32_t at;      /* the call that fails, from 1; 0: none, they are only counted */
	uint32_t variant; /* which of its errors */
	_Atomic uint32_t count;
	uint32_t reached;  /* the at-th call came */
	uint32_t failed;   /* and had such a variant, so that it failed */
	uint32_t variants; /* that it has */
	uint32_t family;   /* of its socket; 0: it was none */
	int32_t error;     /* that it was given; 0: a short transfer */
	char name[32];
};

static struct control *control;
static enum role role;

/* What a variant is besides an errno: the call is made, with fewer bytes. */
#define SHORT       (-1)
#define END         0
#define ERRORS(...) ((const int[]){__VA_ARGS__, END})

/* ---- set-up ---- */

static void *real(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* ISO C has no conversion from dlsym's pointer to a function pointer. */
#define REAL(result, name, ...)                                                                    \
	static result (*real_##name)(__VA_ARGS__);                                                 \
	if (!real_##name) {                                                                        \
		void *found_ = real(#name);                                                        \
		memcpy(&real_##name, &found_, sizeof(found_));                                     \
	}

static long direct(long number, long a, long b, long c)
{
	REAL(long, syscall, long, ...)
	return real_syscall(number, a, b, c, 0L, 0L, 0L);
}

static void __attribute__((constructor)) begin(void)
{
	const char *path = getenv("VACATE_FAULT");
	char self[512];
	long n = direct(SYS_readlink, (long)"/proc/self/exe", (long)self, sizeof(self) - 1);
	const char *base;
	void *map;
	long fd;

	if (!path || n <= 0)
		return;
	self[n] = '\0';
	base = strrchr(self, '/');
	base = base ? base + 1 : self;
	if (strcmp(base, "vacate") == 0)
		role = ROLE_SERVER;
	else if (strcmp(base, "vacate-worker") == 0)
		role = ROLE_WORKER;
	else
		return;
	fd = direct(SYS_open, (long)path, O_RDWR | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	REAL(void *, mmap, void *, size_t, int, int, int, off_t)
	map = real_mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
	direct(SYS_close, fd, 0, 0);
	if (map != MAP_FAILED)
		control = map;
}

/* ---- the decision ---- */

/* An errno to fail with, SHORT, or 0: do as asked. */
static int decide(enum class class, const char *name, int family, const int *errors)
{
	uint32_t number, variants = 0;

	if (!control || control->role != (uint32_t)role || !(control->classes & class))
		return 0;
	number = atomic_fetch_add(&control->count, 1) + 1;
	if (number != control->at)
		return 0;
	while (errors[variants] != END)
		variants++;
	control->variants = variants;
	control->family = (uint32_t)family;
	strncpy(control->name, name, sizeof(control->name) - 1);
	control->reached = 1;
	if (control->variant >= variants)
		return 0;
	control->failed = 1;
	control->error = errors[control->variant] == SHORT ? 0 : errors[control->variant];
	return errors[control->variant];
}

/* true: errno is set, the call must fail. */
static bool fails(const char *name, const int *errors)
{
	int error = decide(CLASS_CALLS, name, 0, errors);

	if (error > 0)
		errno = error;
	return error > 0;
}

/* ---- descriptors ---- */

/* Kinds of what is read and written. */
enum kind { KIND_FILE, KIND_PEER, KIND_CLIENT, KIND_OTHER };

static enum kind kind_of(int fd, int *family)
{
	struct sockaddr_storage address = {0};
	socklen_t bytes = sizeof(address);
	struct stat st;
	int saved = errno;
	enum kind kind = KIND_OTHER;

	*family = 0;
	if (direct(SYS_fstat, fd, (long)&st, 0) == 0) {
		if (S_ISSOCK(st.st_mode) &&
		    direct(SYS_getsockname, fd, (long)&address, (long)&bytes) == 0) {
			*family = address.ss_family;
			kind = *family == AF_UNIX ? KIND_PEER : KIND_CLIENT;
		} else if (S_ISREG(st.st_mode)) {
			kind = KIND_FILE;
		}
	}
	errno = saved;
	return kind;
}

/* Sockets to clients do not block and are watched edge-triggered: neither EINTR,
 * a spurious EAGAIN nor a short transfer with more behind it can happen there. */
static int reading(const char *name, int fd)
{
	static const int file[] = {EIO, SHORT, EINTR, ENOMEM, END};
	static const int peer[] = {ECONNRESET, SHORT, EINTR, EAGAIN, END};
	static const int client[] = {ECONNRESET, ENOMEM, END};
	static const int other[] = {EINTR, END};
	static const int *const errors[] = {file, peer, client, other};
	int family;
	enum kind kind = kind_of(fd, &family);

	return decide(CLASS_CALLS, name, family, errors[kind]);
}

static int writing(const char *name, int fd)
{
	static const int file[] = {ENOSPC, SHORT, EINTR, EIO, END};
	static const int peer[] = {ENOBUFS, SHORT, EAGAIN, EINTR, END};
	static const int client[] = {EPIPE, ECONNRESET, END};
	static const int none[] = {END};
	static const int *const errors[] = {file, peer, client, none};
	int family;
	enum kind kind = kind_of(fd, &family);

	return decide(CLASS_CALLS, name, family, errors[kind]);
}

/* Half of it, at least one byte. */
static size_t shorter(size_t bytes)
{
	return bytes > 1 ? bytes / 2 : bytes;
}

#define TRANSFER(how, result, name, types, fd, bytes, ...)                                         \
	EXPORT result name types                                                                   \
	{                                                                                          \
		int error = how(#name, fd);                                                        \
		REAL_OF(result, name, types)                                                       \
		if (error > 0) {                                                                   \
			errno = error;                                                             \
			return -1;                                                                 \
		}                                                                                  \
		if (error == SHORT)                                                                \
			bytes = shorter(bytes);                                                    \
		return real_##name(__VA_ARGS__);                                                   \
	}
#define REAL_OF(result, name, types)                                                               \
	static result(*real_##name) types;                                                         \
	if (!real_##name) {                                                                        \
		void *found_ = real(#name);                                                        \
		memcpy(&real_##name, &found_, sizeof(found_));                                     \
	}

TRANSFER(reading, ssize_t, read, (int fd, void *to, size_t bytes), fd, bytes, fd, to, bytes)
TRANSFER(reading, ssize_t, pread, (int fd, void *to, size_t bytes, off_t at), fd, bytes, fd, to,
	 bytes, at)
TRANSFER(reading, ssize_t, pread64, (int fd, void *to, size_t bytes, off64_t at), fd, bytes, fd, to,
	 bytes, at)
TRANSFER(reading, ssize_t, recv, (int fd, void *to, size_t bytes, int flags), fd, bytes, fd, to,
	 bytes, flags)
TRANSFER(writing, ssize_t, write, (int fd, const void *from, size_t bytes), fd, bytes, fd, from,
	 bytes)
TRANSFER(writing, ssize_t, pwrite64, (int fd, const void *from, size_t bytes, off64_t at), fd,
	 bytes, fd, from, bytes, at)
TRANSFER(writing, ssize_t, send, (int fd, const void *from, size_t bytes, int flags), fd, bytes, fd,
	 from, bytes, flags)

/* ---- calls that return -1 and set errno ---- */

#define CALL(result, name, types, errors, ...)                                                     \
	EXPORT result name types                                                                   \
	{                                                                                          \
		REAL_OF(result, name, types)                                                       \
		if (fails(#name, errors))                                                          \
			return (result)-1;                                                         \
		return real_##name(__VA_ARGS__);                                                   \
	}

#define FILE_ERRORS ERRORS(EACCES, ENOMEM, EIO)
#define FD_ERRORS   ERRORS(EMFILE, ENOMEM)

CALL(int, fstat, (int fd, struct stat *st), ERRORS(EIO, ENOMEM), fd, st)
CALL(int, fstat64, (int fd, struct stat64 *st), ERRORS(EIO, ENOMEM), fd, st)
CALL(int, stat, (const char *path, struct stat *st), FILE_ERRORS, path, st)
CALL(int, stat64, (const char *path, struct stat64 *st), FILE_ERRORS, path, st)
CALL(int, lstat64, (const char *path, struct stat64 *st), FILE_ERRORS, path, st)
CALL(int, access, (const char *path, int mode), FILE_ERRORS, path, mode)
CALL(int, faccessat, (int dir, const char *path, int mode, int flags), FILE_ERRORS, dir, path, mode,
     flags)
CALL(ssize_t, readlink, (const char *path, char *to, size_t bytes), FILE_ERRORS, path, to, bytes)
CALL(int, rename, (const char *from, const char *to), ERRORS(ENOSPC, EACCES), from, to)
CALL(int, ftruncate64, (int fd, off64_t bytes), ERRORS(ENOSPC, EINTR), fd, bytes)
CALL(int, mprotect, (void *at, size_t bytes, int prot), ERRORS(ENOMEM), at, bytes, prot)
CALL(int, mincore, (void *at, size_t bytes, unsigned char *to), ERRORS(EAGAIN, ENOMEM), at, bytes,
     to)
CALL(int, epoll_create1, (int flags), FD_ERRORS, flags)
CALL(int, epoll_wait, (int fd, struct epoll_event *events, int most, int ms), ERRORS(EINTR), fd,
     events, most, ms)
CALL(int, poll, (struct pollfd * fds, nfds_t count, int ms), ERRORS(EINTR), fds, count, ms)
CALL(int, eventfd, (unsigned int count, int flags), FD_ERRORS, count, flags)
CALL(int, signalfd, (int fd, const sigset_t *mask, int flags), FD_ERRORS, fd, mask, flags)
CALL(int, pipe2, (int fds[2], int flags), FD_ERRORS, fds, flags)
CALL(int, socket, (int domain, int type, int protocol), FD_ERRORS, domain, type, protocol)
CALL(int, socketpair, (int domain, int type, int protocol, int fds[2]), FD_ERRORS, domain, type,
     protocol, fds)
CALL(int, bind, (int fd, const struct sockaddr *address, socklen_t bytes),
     ERRORS(EADDRINUSE, EACCES, EADDRNOTAVAIL), fd, address, bytes)
CALL(int, listen, (int fd, int backlog), ERRORS(EADDRINUSE), fd, backlog)
CALL(int, getsockname, (int fd, struct sockaddr *address, socklen_t *bytes), ERRORS(ENOBUFS), fd,
     address, bytes)
CALL(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t bytes),
     ERRORS(ENOMEM), fd, level, name, value, bytes)
CALL(int, dup2, (int from, int to), ERRORS(EMFILE), from, to)
CALL(pid_t, fork, (void), ERRORS(EAGAIN, ENOMEM))
CALL(int, execve, (const char *path, char *const *args, char *const *env), ERRORS(EACCES, ENOMEM),
     path, args, env)
CALL(int, getrlimit64, (__rlimit_resource_t what, struct rlimit64 *to), ERRORS(EINVAL), what, to)
CALL(int, setrlimit64, (__rlimit_resource_t what, const struct rlimit64 *to), ERRORS(EPERM), what,
     to)

/* accept: the connection is a client's, whoever calls. */
EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags)
{
	int error = decide(CLASS_CALLS, "accept4", AF_INET,
			   ERRORS(ECONNABORTED, EMFILE, ENOMEM, EINTR));

	REAL(int, accept4, int, struct sockaddr *, socklen_t *, int)
	if (error > 0) {
		errno = error;
		return -1;
	}
	return real_accept4(fd, address, bytes, flags);
}

EXPORT int open64(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list ap;

	REAL(int, open64, const char *, int, ...)
	if (flags & (O_CREAT | __O_TMPFILE)) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	if (fails("open", ERRORS(EMFILE, EACCES, EIO, ENOMEM)))
		return -1;
	return real_open64(path, flags, mode);
}

EXPORT int fcntl64(int fd, int command, ...)
{
	va_list ap;
	long argument;

	REAL(int, fcntl64, int, int, ...)
	va_start(ap, command);
	argument = va_arg(ap, long);
	va_end(ap);
	/* Of the others none needs anything that could be missing. */
	if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) &&
	    fails("fcntl F_DUPFD", ERRORS(EMFILE)))
		return -1;
	return real_fcntl64(fd, command, argument);
}

/* The descriptor is gone whatever close says. */
EXPORT int close(int fd)
{
	bool bad = fails("close", ERRORS(EIO, EINTR));
	int saved = errno, rc;

	REAL(int, close, int)
	rc = real_close(fd);
	if (!bad)
		return rc;
	errno = saved;
	return -1;
}

EXPORT void *mmap64(void *at, size_t bytes, int prot, int flags, int fd, off64_t offset)
{
	REAL(void *, mmap64, void *, size_t, int, int, int, off64_t)
	if (fails("mmap", ERRORS(ENOMEM)))
		return MAP_FAILED;
	return real_mmap64(at, bytes, prot, flags, fd, offset);
}

EXPORT void *mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	REAL(void *, mmap, void *, size_t, int, int, int, off_t)
	if (fails("mmap", ERRORS(ENOMEM)))
		return MAP_FAILED;
	return real_mmap(at, bytes, prot, flags, fd, offset);
}

EXPORT int madvise(void *at, size_t bytes, int advice)
{
	REAL(int, madvise, void *, size_t, int)
	if (fails("madvise",
		  advice == 23 /* MADV_POPULATE_WRITE */ ? ERRORS(ENOMEM, EAGAIN, EINTR, EINVAL)
							 : ERRORS(EINVAL, ENOMEM)))
		return -1;
	return real_madvise(at, bytes, advice);
}

/* A descriptor that is in the set needs nothing new. */
EXPORT int epoll_ctl(int set, int what, int fd, struct epoll_event *event)
{
	REAL(int, epoll_ctl, int, int, int, struct epoll_event *)
	if (what == EPOLL_CTL_ADD) {
		int family, error;

		kind_of(fd, &family);
		error = decide(CLASS_CALLS, "epoll_ctl ADD", family, ERRORS(ENOMEM, ENOSPC));
		if (error > 0) {
			errno = error;
			return -1;
		}
	}
	return real_epoll_ctl(set, what, fd, event);
}

/* ECHILD: somebody else has reaped it, so it must be reaped. */
EXPORT pid_t waitpid(pid_t pid, int *status, int options)
{
	int error = decide(CLASS_CALLS, "waitpid", 0, ERRORS(ECHILD, EINTR));

	REAL(pid_t, waitpid, pid_t, int *, int)
	if (error == ECHILD)
		real_waitpid(pid, status, options);
	if (error > 0) {
		errno = error;
		return -1;
	}
	return real_waitpid(pid, status, options);
}

EXPORT int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	int error = decide(CLASS_CALLS, "waitid", 0, ERRORS(EINTR, ECHILD));

	REAL(int, waitid, idtype_t, id_t, siginfo_t *, int)
	if (error == ECHILD)
		real_waitid(type, id, info, options & ~WNOHANG);
	if (error > 0) {
		errno = error;
		return -1;
	}
	return real_waitid(type, id, info, options);
}

EXPORT int prctl(int option, ...)
{
	unsigned long a[4];
	va_list ap;

	REAL(int, prctl, int, ...)
	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	if (fails("prctl", ERRORS(EPERM, EINVAL)))
		return -1;
	return real_prctl(option, a[0], a[1], a[2], a[3]);
}

EXPORT DIR *opendir(const char *path)
{
	REAL(DIR *, opendir, const char *)
	if (fails("opendir", ERRORS(EMFILE, EACCES, ENOMEM, EIO)))
		return NULL;
	return real_opendir(path);
}

EXPORT struct dirent64 *readdir64(DIR *dir)
{
	REAL(struct dirent64 *, readdir64, DIR *)
	if (fails("readdir", ERRORS(EIO)))
		return NULL;
	return real_readdir64(dir);
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
			  void *argument)
{
	REAL(int, pthread_create, pthread_t *, const pthread_attr_t *, void *(*)(void *), void *)
	if (fails("pthread_create", ERRORS(EAGAIN)))
		return EAGAIN;
	return real_pthread_create(thread, attributes, run, argument);
}

/* The calls that glibc has no wrapper for. */
EXPORT long syscall(long number, ...)
{
	long a[6];
	va_list ap;

	REAL(long, syscall, long, ...)
	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	/* A futex may wake for no reason at any time, which is no failure. */
	if (number != SYS_futex &&
	    fails("syscall",
		  number == SYS_pidfd_open ? ERRORS(EMFILE, ENOSYS, EPERM) : ERRORS(ENOSYS, EPERM)))
		return -1;
	return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- allocations ---- */

#ifdef VACATE_FAULT_ALLOCATIONS
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern void *__libc_memalign(size_t align, size_t bytes);

static bool starved(const char *name)
{
	int error = decide(CLASS_ALLOCATIONS, name, 0, ERRORS(ENOMEM));

	if (error > 0)
		errno = error;
	return error > 0;
}

EXPORT void *malloc(size_t bytes)
{
	return starved("malloc") ? NULL : __libc_malloc(bytes);
}

EXPORT void *calloc(size_t count, size_t bytes)
{
	return starved("calloc") ? NULL : __libc_calloc(count, bytes);
}

EXPORT void *realloc(void *old, size_t bytes)
{
	return starved("realloc") ? NULL : __libc_realloc(old, bytes);
}

EXPORT void *aligned_alloc(size_t align, size_t bytes)
{
	return starved("aligned_alloc") ? NULL : __libc_memalign(align, bytes);
}
#endif
