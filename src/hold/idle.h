/*
 * idle.h - for how long processes have held VRAM without using the GPU. NVML tells the
 * use of some seconds back; a longer time is put together here from one look after the
 * other, and counts only where it was wholly observed: where the samples of two looks do
 * not meet, where NVML does not tell who uses a device, and where the clock was set or the
 * machine slept, it begins anew. A sample names one process: short use beside somebody who
 * computes may be nobody's, so there who took CPU time counts as having used it. Nothing is
 * asked of a driver here. One owner; any thread.
 */
#ifndef VAC_HOLD_IDLE_H
#define VAC_HOLD_IDLE_H

#include "hold/usage.h"

/* Why a process's use is not known. */
enum vac_idle_doubt {
	VAC_IDLE_SURE,
	VAC_IDLE_UNTOLD, /* NVML does not tell the use of processes on a device of it */
	VAC_IDLE_GAP,    /* the samples do not reach back to the look before */
	VAC_IDLE_NOBODY, /* a device is in use again and again, by nobody whom NVML names */
};
/* "NVML does not tell ..."; "" for SURE. */
const char *vac_idle_doubt_text(enum vac_idle_doubt doubt);

struct vac_idle_process {
	pid_t pid;
	uint64_t start_ticks;
	enum vac_hold_state state, before; /* at the last look, and at the one before that */
	uint64_t cpu_ticks;                /* at the last look */
	int64_t since_ns;                  /* vac_now_ns(): observed and not used since then */
	enum vac_idle_doubt doubt;         /* of the last look: then since_ns is that look's */
	uint32_t doubtful;                 /* looks in a row */
	bool told;                         /* these two are the caller's, 0 at first */
	int64_t quiet_until_ns;
	bool seen, missed; /* at the last look; it was not, and is kept for one more */
};

struct vac_idle {
	uint32_t count, capacity;
	struct vac_idle_process *list;
	int64_t look_ns, look_us; /* the last look, by the monotonic clock and by NVML's; 0: none */
	int64_t reach_us;         /* how far back its samples go on the device where that is
				   * the least; 0: there is none */
	bool in_use[VAC_SURVEY_MOST_DEVICES]; /* by nobody whom NVML names, at the last look */
};

/* A look, made at now_ns: the survey, and the holders made of it. Processes that are in no
 * list any more are forgotten. VAC_E_NO_ROOM: out of memory; all begins anew. */
int vac_idle_look(struct vac_idle *idle, const struct vac_survey *survey,
		  const struct vac_holders *holders, int64_t now_ns,
		  struct vac_error *err) VAC_MUST_CHECK;
/* Nothing could be seen: all begins anew. What the caller keeps stays. */
void vac_idle_blind(struct vac_idle *idle);
/* NULL: it was in no list at the last look. */
struct vac_idle_process *vac_idle_find(const struct vac_idle *idle, pid_t pid,
				       uint64_t start_ticks);
/* It was resumed: it has the whole time again, whether a look has seen it parked or not. */
void vac_idle_begin_anew(const struct vac_idle *idle, pid_t pid, uint64_t start_ticks,
			 int64_t now_ns);
/* For how long it was idle, milliseconds; -1: not known, or it is not running. */
int64_t vac_idle_ms(const struct vac_idle *idle, const struct vac_idle_process *process);
/* When to look next so that the samples meet, milliseconds: interval_ms, or less. */
int64_t vac_idle_next_ms(const struct vac_idle *idle, int64_t interval_ms);
void vac_idle_free(struct vac_idle *idle);

#endif
