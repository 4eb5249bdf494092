/*
 * proc.h - what /proc says of somebody's process. The parsers are functions of
 * text alone. Any thread; no state.
 *
 * root: "" on a live system; tests give a directory that holds proc/ and dev/.
 */
#ifndef VAC_HOLD_PROC_H
#define VAC_HOLD_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define VAC_PROC_NAME_BYTES  64
#define VAC_PROC_NAMESPACES  8 /* that one process can be in, the outermost first */
#define VAC_PROC_MOST_NVIDIA 32

struct vac_proc_status {
	bool uid_valid, threads_valid;
	uid_t uid;   /* effective */
	pid_t group; /* of which it is a thread; the process's own number. 0: not told */
	uint32_t threads;
	/* Its numbers in the namespaces that it is in, from that of this /proc inwards. */
	uint32_t pid_count;
	pid_t pids[VAC_PROC_NAMESPACES];
	uint64_t locked_bytes, pinned_bytes; /* VmLck, VmPin */
};
/* /proc/PID/status, and more than it has is no harm. false: it says none of this. */
bool vac_proc_parse_status(const char *text, size_t bytes, struct vac_proc_status *out);

struct vac_proc_stat {
	char state; /* 'R', 'S', 'Z', ... */
	pid_t parent;
	uint64_t cpu_ticks;   /* user and system */
	uint64_t start_ticks; /* since boot */
};
/* /proc/PID/stat, whatever the process calls itself. */
bool vac_proc_parse_stat(const char *text, size_t bytes, struct vac_proc_stat *out);

/* What a process is, for people: "train.py" of "python3 -u train.py --epochs 3",
 * "ipykernel (notebook)", "python -c", else its program's name; comm where it has no
 * arguments. Control characters and bytes that are not UTF-8 become '?'. */
void vac_proc_name(const char *cmdline, size_t bytes, const char *comm,
		   char out[VAC_PROC_NAME_BYTES]);

/* Makes a text fit for a terminal, a table and JSON, in the same way. room: what it was
 * cut to fit into: of a character that was cut at its end nothing stays. */
void vac_proc_clean(char *text, size_t room);

struct vac_proc {
	pid_t pid;
	struct vac_proc_status status;
	struct vac_proc_stat stat;
	char name[VAC_PROC_NAME_BYTES];
	bool rss_valid;
	uint64_t rss_bytes;
};
/* 0 or a negative errno: -ENOENT, or -ESRCH of one that has ended. */
int vac_proc_read(const char *root, pid_t pid, struct vac_proc *out);

/* What a process has open of the driver's. */
struct vac_proc_nvidia {
	uint32_t descriptors;
	bool uvm;      /* /dev/nvidia-uvm: CUDA; management programs do without */
	uint32_t gpus; /* bit n: /dev/nvidiaN, n < 32 */
};
/* 0 or a negative errno: -EACCES where it is not ours to look at. */
int vac_proc_nvidia(const char *root, pid_t pid, struct vac_proc_nvidia *out);

/* Calls each with the number of every process, in the order of /proc, until it
 * returns false. 0 or a negative errno. */
int vac_proc_each(const char *root, bool (*each)(void *ctx, pid_t pid), void *ctx);

/* Reads DIR/proc/PID/NAME as text with a final zero; bytes read or a negative errno.
 * What does not fit is left out. */
ssize_t vac_proc_text(const char *root, pid_t pid, const char *name, char *text, size_t room);

#endif
