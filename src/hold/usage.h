/*
 * usage.h - who holds what: what NVML told of the devices (a survey), put together
 * with what /proc says of the processes and what is on record of those that were
 * parked. No library of a driver is called here: the survey may come from another
 * process. One snapshot has one owner; any thread.
 *
 * Numbers of processes. NVML's are those of the namespace that the driver thinks its
 * caller is in, which is not always that of /proc: in a container with the host's
 * /proc, or with a driver that gives the host's numbers. Where the driver's device
 * files can be seen in /proc/PID/fd, a process that has none is not the one that NVML
 * means; then the one with such files whose NSpid has that number is. A number that
 * leads to no process stays as it is, and nothing is said of who that is.
 */
#ifndef VAC_HOLD_USAGE_H
#define VAC_HOLD_USAGE_H

#include "base/survey.h"
#include "hold/hold.h"
#include "hold/proc.h"
#include "memory/meter.h"

/* What one process has on one device. */
struct vac_holder_part {
	uint32_t device; /* index in vac_holders.devices */
	bool bytes_valid;
	uint64_t bytes;
	bool graphics_only;
	struct vac_gauge sm_percent;
	/* Since when NVML saw no use of it; at_least: since before its samples begin. */
	bool idle_valid, idle_at_least;
	int64_t idle_ms;
};

struct vac_holder {
	uint32_t nvml_pid; /* 0: NVML does not list it */
	pid_t pid;         /* here; 0: it cannot be seen from here */
	pid_t inner_pid;   /* in the innermost namespace that it is in; 0: the same */
	uint64_t start_ticks;
	uint64_t cpu_ticks; /* of CPU time so far, as /proc counts them */
	bool uid_valid;
	uid_t uid;
	char name[VAC_PROC_NAME_BYTES]; /* "train.py"; "" where it cannot be seen */
	bool rss_valid;
	uint64_t rss_bytes;
	struct vac_usage usage; /* of vac_holders_measure(); valid or not */
	bool usage_late;        /* it was not measured in time */
	enum vac_hold_state state;
	bool parked_valid;
	uint64_t parked_bytes; /* of VRAM, when it was parked */
	/* On record: who brought it to that state, and what ("guard"; ""). */
	bool by_valid;
	uid_t by_uid;
	char by[VAC_HOLD_WHO_BYTES];
	uint32_t part_count;
	struct vac_holder_part *parts; /* owned by the snapshot; device by device */
};

struct vac_holder_device {
	const struct vac_survey_device *survey; /* of the survey that was given */
	uint64_t listed_bytes;                  /* what its processes have, together */
	bool unaccounted_valid;                 /* every process's bytes are known */
	uint64_t unaccounted_bytes;             /* used by nobody that is listed */
};

struct vac_holders {
	uint32_t count, capacity;
	struct vac_holder *list; /* by device and VRAM, the largest first */
	uint32_t device_count;
	struct vac_holder_device *devices; /* owned */
	uint32_t hidden;                   /* processes whose open files may not be looked at */
	bool cut_short; /* not all were looked at: the time was over, or they are thousands */
};

/* What is on record of a process that is parked, locked or failed (hold/record.h). */
struct vac_holder_record {
	pid_t pid;
	uint64_t start_ticks; /* another process has another */
	enum vac_hold_state state;
	bool interrupted; /* what was to change that state did not come to an end */
	bool bytes_valid;
	uint64_t bytes; /* of VRAM, when it was parked */
	uid_t by_uid;
	char by[VAC_HOLD_WHO_BYTES];
};

struct vac_holders_options {
	const char *root; /* NULL: "" */
	const struct vac_holder_record *records;
	size_t record_count;
	/* For processes that have the driver open and that NVML does not list: how long
	 * to look for them; 0: not at all. */
	uint32_t look_ms;
	pid_t except; /* not to be shown: who asked NVML */
};

/* survey: NULL where there is none; it must outlive the snapshot. On error *out is
 * empty. */
int vac_holders_take(const struct vac_survey *survey, const struct vac_holders_options *options,
		     struct vac_holders *out, struct vac_error *err) VAC_MUST_CHECK;
/* Fills usage (USS, PSS) of all that can be measured until deadline_ns
 * (vac_now_ns()), the small ones first; those that it was too late for are marked, those
 * that are not ours to measure stay without. A reading that does not end in time ends in a thread of its
 * own, which touches nothing of the caller's. */
void vac_holders_measure(struct vac_holders *holders, int64_t deadline_ns);
void vac_holders_free(struct vac_holders *holders);
/* Only that process stays in the list, if it is there. */
void vac_holders_keep(struct vac_holders *holders, pid_t pid);

/* Of all devices: bytes (false: unknown of one), newest use, shortest idleness. */
bool vac_holder_bytes(const struct vac_holder *holder, uint64_t *bytes);

#endif
