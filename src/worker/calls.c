/*
 * calls.c - which system calls a worker makes, and what each backend needs
 * besides. Data, and who looks it up.
 *
 * What is allowed was read off strace (loads, tasks, unloads, plans, thread teams,
 * malloc_trim, aborts; glibc 2.36) and widened to what glibc does in its place on
 * other kernels and in later versions. What is neither allowed nor hostile fails
 * with ENOSYS, which a C library answers with another call or does without.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/rules.h"
#include "worker/sandbox.h"

#define WRITING (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))
/* Of the kernel: glibc 2.41 and allocators name their mappings. */
#define SET_VMA 0x53564d41

static const struct vac_call_rule common[] = {
	/* The socket, and only as the stream that it is: no addresses. */
	ALLOW_IF(recvmsg, EQUAL, 0, VAC_FILTER_SOCKET),
	ALLOW_IF2(sendto, EQUAL, 0, VAC_FILTER_SOCKET, NULL, 4, 0),
	ALLOW_IF2(recvfrom, EQUAL, 0, VAC_FILTER_SOCKET, NULL, 4, 0),
	ALLOW(ppoll),

	/* Files that were handed over are read at an offset. Standard error may be a
	 * terminal or a log that others write, too: it is written and not read. */
	FAIL_IF(pread64, EPERM, EQUAL, 0, STDERR_FILENO),
	ALLOW(pread64),
	FAIL_IF(preadv, EPERM, EQUAL, 0, STDERR_FILENO),
	ALLOW(preadv),
	ALLOW(fstat),
	ALLOW(fadvise64),
	ALLOW(close),
	FAIL_IF(fcntl, EPERM, EQUAL, 0, STDERR_FILENO),
	ALLOW_IF(fcntl, EQUAL, 1, F_DUPFD_CLOEXEC),
	ALLOW_IF(fcntl, EQUAL, 1, F_GETFD),
	ALLOW_IF(fcntl, EQUAL, 1, F_GETFL),
	ALLOW_IF(write, EQUAL, 0, STDERR_FILENO),
	ALLOW_IF(writev, EQUAL, 0, STDERR_FILENO),

	/* Memory, but never code and never a file. */
	HOSTILE_IF(mmap, SET, 2, PROT_EXEC),
	ALLOW_IF(mmap, SET, 3, MAP_ANONYMOUS),
	HOSTILE_IF(mprotect, SET, 2, PROT_EXEC),
	ALLOW(mprotect),
	ALLOW(munmap),
	ALLOW(mremap),
	ALLOW(madvise),
	ALLOW(brk),
	ALLOW(mincore),

	/* Threads of its own. clone3 has its flags where no filter can look; glibc
	 * falls back to clone. */
	ALLOW(futex),
	ALLOW_IF(clone, SET, 0, CLONE_THREAD),
	FAIL(clone3, ENOSYS),
	ALLOW(set_robust_list),
#ifdef SYS_rseq
	ALLOW(rseq),
#endif
	ALLOW(sched_yield),
	ALLOW(sched_getaffinity),
	ALLOW(exit),
	ALLOW(exit_group),

	/* The time, where no vDSO tells it, too. */
	ALLOW(clock_gettime),
	ALLOW(clock_getres),
	ALLOW(clock_nanosleep),
	ALLOW(nanosleep),
	ALLOW(gettimeofday),

	/* Signals to itself. The handler that reports what the filter stops stays. */
	ALLOW(rt_sigprocmask),
	FAIL_IF(rt_sigaction, EPERM, EQUAL, 0, SIGSYS),
	ALLOW(rt_sigaction),
	ALLOW(rt_sigreturn),
	ALLOW(sigaltstack),
	ALLOW(restart_syscall),
	ALLOW_IF(tgkill, SELF, 0, 0),

	/* What it may know of itself and of the machine. */
	ALLOW(getpid),
	ALLOW(gettid),
	ALLOW(getppid),
	ALLOW(getuid),
	ALLOW(geteuid),
	ALLOW(getgid),
	ALLOW(getegid),
	ALLOW(getcpu),
	ALLOW(getrusage),
	ALLOW(uname),
	ALLOW(sysinfo),
	ALLOW(getrandom),
	ALLOW_IF2(prlimit64, EQUAL, 0, 0, NULL, 2, 0),
	ALLOW_IF(prctl, EQUAL, 0, PR_SET_NAME),
	ALLOW_IF(prctl, EQUAL, 0, SET_VMA),
#ifdef __x86_64__ /* aarch64 never had them */
	ALLOW(poll),
	ALLOW(time),
	FAIL_IF(open, EACCES, CLEAR, 1, WRITING),
	HOSTILE(open),
	FAIL(access, EACCES),
	FAIL(readlink, EACCES),
	FAIL(stat, EACCES),
	FAIL(lstat, EACCES),
	HOSTILE(creat),
	HOSTILE(fork),
	HOSTILE(vfork),
#endif

	/* A library that looks for a file is told that it may not. */
	FAIL_IF(openat, EACCES, CLEAR, 2, WRITING),
	HOSTILE(openat),
	FAIL(faccessat, EACCES),
	FAIL(readlinkat, EACCES),
	FAIL(newfstatat, EACCES),
	FAIL(statx, EACCES),
	FAIL(ioctl, ENOTTY),

	/* Nothing of ours comes near these. Where a process ends that asks for one,
	 * no second try follows. */
	HOSTILE(socket),
	HOSTILE(socketpair),
	HOSTILE(connect),
	HOSTILE(bind),
	HOSTILE(listen),
	HOSTILE(accept),
	HOSTILE(accept4),
	HOSTILE(sendmmsg),
	HOSTILE(execve),
	HOSTILE(execveat),
	HOSTILE(clone),
	HOSTILE(ptrace),
	HOSTILE(process_vm_readv),
	HOSTILE(process_vm_writev),
	HOSTILE(kill),
	HOSTILE(tkill),
	HOSTILE(tgkill),
	HOSTILE(rt_sigqueueinfo),
	HOSTILE(rt_tgsigqueueinfo),
#ifdef SYS_pidfd_open
	HOSTILE(pidfd_open),
#endif
#ifdef SYS_pidfd_send_signal
	HOSTILE(pidfd_send_signal),
#endif
#ifdef SYS_pidfd_getfd
	HOSTILE(pidfd_getfd),
#endif
	HOSTILE(bpf),
	HOSTILE(perf_event_open),
	HOSTILE(userfaultfd),
	HOSTILE(keyctl),
	HOSTILE(add_key),
	HOSTILE(request_key),
#ifdef SYS_io_uring_setup
	HOSTILE(io_uring_setup),
	HOSTILE(io_uring_enter),
	HOSTILE(io_uring_register),
#endif
	HOSTILE(mount),
	HOSTILE(umount2),
	HOSTILE(pivot_root),
	HOSTILE(chroot),
	HOSTILE(unshare),
	HOSTILE(setns),
	HOSTILE(open_by_handle_at),
	HOSTILE(init_module),
	HOSTILE(finit_module),
	HOSTILE(delete_module),
	HOSTILE(kexec_load),
	HOSTILE(setuid),
	HOSTILE(setgid),
	HOSTILE(setresuid),
	HOSTILE(setresgid),
	HOSTILE(capset),
	HOSTILE(shmget),
	HOSTILE(shmat),
	HOSTILE(msgget),
	HOSTILE(semget),
	HOSTILE(mq_open),
	HOSTILE(unlinkat),
	HOSTILE(renameat2),
	HOSTILE(linkat),
	HOSTILE(symlinkat),
	HOSTILE(mkdirat),
	HOSTILE(mknodat),
	HOSTILE(fchmod),
	HOSTILE(fchmodat),
	HOSTILE(fchown),
	HOSTILE(fchownat),
	HOSTILE(truncate),
	HOSTILE(ftruncate),
	/* With which the handler of SIGSYS ends the process. */
	KILL(reboot),
};

const struct vac_call_rule *vac_common_calls(size_t *count)
{
	*count = sizeof(common) / sizeof(common[0]);
	return common;
}

const struct vac_sandbox_profile *vac_sandbox_profile(const char *backend)
{
	/* Computing in host memory needs nothing more. */
	static const struct vac_sandbox_profile profiles[] = {
		{.backend = "cpu"},
		{.backend = "reference"},
	};
	static struct vac_sandbox_profile cuda = {.backend = "cuda"};

	if (strcmp(backend, cuda.backend) == 0) {
		cuda.calls = vac_cuda_calls(&cuda.call_count);
		return &cuda;
	}

	for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++) {
		if (strcmp(profiles[i].backend, backend) == 0)
			return &profiles[i];
	}
	return NULL;
}
