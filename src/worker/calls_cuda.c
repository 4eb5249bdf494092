/*
 * calls_cuda.c - the system calls that NVIDIA's driver and libraries make beside those
 * of every worker. Data. Looked at before the common rules.
 *
 * They open device files and read /proc and /sys while they work, and load more of
 * themselves: so files are opened here, and Landlock alone says which (places.c of the
 * backend). What they try and can do without fails with an error where the common
 * rules would end the worker: they look for a daemon on a socket (MPS), and for a program
 * that makes device files (nvidia-modprobe), which vacate-gpud has run before, unconfined.
 *
 * One socket they cannot do without: starting CUDA makes an abstract one (cuda-uvmfd-N-PID,
 * SOCK_SEQPACKET) on which other processes may ask for shared memory, and fails with 304
 * where that cannot be bound or does not listen. So one of that kind may be. It connects to
 * nobody, and a path cannot be bound, since Landlock lets no socket be made anywhere. But who
 * connects to it is accepted, as by every CUDA process: where accept failed, the driver's
 * thread asked again and again, and anybody could have kept a processor busy. Who may ask for
 * what there the driver checks, as ever.
 *
 * An ioctl cannot be told by its device here. Landlock can, from version 5 on: only what
 * was opened as a device of ours takes any.
 */
#include <errno.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/rules.h"
#include "worker/sandbox.h"

/* The same on every architecture, and newer than most headers. */
#define NR_CACHESTAT 451

static const struct vac_call_rule cuda[] = {
	/* Files and devices, where Landlock lets them be opened. */
	ALLOW(openat),
	ALLOW(newfstatat),
	ALLOW(statx),
	ALLOW(faccessat),
#ifdef SYS_faccessat2
	ALLOW(faccessat2),
#endif
	ALLOW(readlinkat),
	ALLOW(getdents64),
	ALLOW(statfs),
	ALLOW(fstatfs),
	ALLOW(getcwd),
	ALLOW(lseek),
	ALLOW(flock),
	{.name = "cachestat", .number = NR_CACHESTAT, .action = VAC_CALL_ALLOW},
	FAIL_IF(read, EPERM, EQUAL, 0, STDERR_FILENO),
	ALLOW(read),
	ALLOW(readv),
	ALLOW(write),
	ALLOW(writev),
	ALLOW(fsync),
	FAIL_IF(ioctl, ENOTTY, EQUAL, 0, STDERR_FILENO),
	FAIL_IF(ioctl, ENOTTY, EQUAL, 0, VAC_FILTER_SOCKET),
	ALLOW(ioctl),
	FAIL_IF(fcntl, EPERM, EQUAL, 0, STDERR_FILENO),
	ALLOW(fcntl),
	ALLOW(dup),
	ALLOW(dup3),

	/* Devices and libraries are mapped; code from files only. */
	HOSTILE_IF2(mmap, SET, 2, PROT_EXEC, SET, 3, MAP_ANONYMOUS),
	ALLOW(mmap),
	FAIL_IF(mprotect, EACCES, SET, 2, PROT_EXEC),
	ALLOW(mlock),
	ALLOW(munlock),
	ALLOW(get_mempolicy),
	ALLOW(set_mempolicy),
	ALLOW(mbind),
	ALLOW(msync),

	/* Their threads wake each other. */
	ALLOW(pipe2),
	ALLOW(eventfd2),
	ALLOW(epoll_create1),
	ALLOW(epoll_ctl),
	ALLOW(epoll_pwait),
	ALLOW(timerfd_create),
	ALLOW(timerfd_settime),
	ALLOW(pselect6),
	ALLOW(sched_getparam),
	ALLOW(sched_getscheduler),
	ALLOW(sched_get_priority_max),
	ALLOW(sched_get_priority_min),
	ALLOW_IF(sched_setaffinity, EQUAL, 0, 0),
	ALLOW_IF(prctl, EQUAL, 0, PR_GET_NAME),
	ALLOW(getresuid),
	ALLOW(getresgid),

	/* The cache of kernels. Its directory was made before. */
	FAIL(mkdirat, EEXIST),
	ALLOW(renameat),
#ifdef SYS_renameat2
	ALLOW(renameat2),
#endif
	ALLOW(unlinkat),
#ifdef __x86_64__
	ALLOW(open),
	ALLOW(stat),
	ALLOW(lstat),
	ALLOW(access),
	ALLOW(readlink),
	ALLOW(getdents),
	ALLOW(dup2),
	ALLOW(pipe),
	ALLOW(eventfd),
	ALLOW(epoll_create),
	ALLOW(epoll_wait),
	ALLOW(select),
	ALLOW(arch_prctl),
	FAIL(mkdir, EEXIST),
	ALLOW(rename),
	ALLOW(unlink),
	FAIL(symlink, EACCES),
	FAIL(fork, EPERM),
	FAIL(vfork, EPERM),
#endif

	/* The socket of its own, and who connects to it: told who that is, and handed
	 * descriptors. The server is handed none. */
	ALLOW_IF2(socket, EQUAL, 0, AF_UNIX, EQUAL, 1, SOCK_SEQPACKET | SOCK_CLOEXEC),
	ALLOW_IF2(setsockopt, EQUAL, 1, SOL_SOCKET, EQUAL, 2, SO_PASSCRED),
	ALLOW(bind),
	ALLOW(listen),
	ALLOW(accept),
	ALLOW(accept4),
	ALLOW_IF2(getsockopt, EQUAL, 1, SOL_SOCKET, EQUAL, 2, SO_PEERCRED),
	FAIL_IF(recvmsg, EPERM, EQUAL, 0, STDERR_FILENO),
	ALLOW(recvmsg),
	FAIL_IF(sendmsg, EPERM, EQUAL, 0, STDERR_FILENO),
	FAIL_IF(sendmsg, EPERM, EQUAL, 0, VAC_FILTER_SOCKET),
	ALLOW(sendmsg),
	FAIL_IF(recvfrom, EPERM, EQUAL, 0, STDERR_FILENO),
	ALLOW_IF(recvfrom, NULL, 4, 0),
	FAIL_IF(sendto, EPERM, EQUAL, 0, STDERR_FILENO),
	ALLOW_IF(sendto, NULL, 4, 0),

	/* Tried, and done without. */
	FAIL(socket, EACCES),
	FAIL(setsockopt, EACCES),
	FAIL(socketpair, EACCES),
	FAIL(connect, EACCES),
	FAIL(symlinkat, EACCES),
	FAIL(execve, EACCES),
	ALLOW_IF(clone, SET, 0, CLONE_THREAD),
	FAIL(clone, EPERM),
	FAIL(memfd_create, EACCES),
	FAIL(kill, EPERM),
	FAIL(shmget, EACCES),
	FAIL(fchmod, EPERM),
	FAIL(fchmodat, EPERM),
	FAIL(ftruncate, EPERM),
#ifdef SYS_pidfd_open
	FAIL(pidfd_open, EPERM),
#endif
	FAIL(process_vm_readv, EPERM),
};

const struct vac_call_rule *vac_cuda_calls(size_t *count)
{
	*count = sizeof(cuda) / sizeof(cuda[0]);
	return cuda;
}
