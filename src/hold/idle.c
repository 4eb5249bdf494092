/* idle.c - see idle.h. */
#include "hold/idle.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS_PER_US 1000
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S  INT64_C(1000000000)
/* Two clocks that ran on together differ by less between two looks. */
#define JUMP_NS (2 * INT64_C(1000000000))
/* Looks are not made more often for want of samples. */
#define SHORTEST_MS 1000
/* CPU time between two looks from which on a process computes: so much, and one part of so
 * many of the time. */
#define CPU_LEAST_NS (50 * NS_PER_MS)
#define CPU_SHARE    50

const char *vac_idle_doubt_text(enum vac_idle_doubt doubt)
{
	switch (doubt) {
	case VAC_IDLE_SURE:
		break;
	case VAC_IDLE_UNTOLD:
		return "NVML does not tell how much each process uses that GPU";
	case VAC_IDLE_GAP:
		return "NVML's samples do not reach back to the look before";
	case VAC_IDLE_NOBODY:
		return "that GPU is in use, and NVML does not tell by whom";
	}
	return "";
}

struct vac_idle_process *vac_idle_find(const struct vac_idle *idle, pid_t pid, uint64_t start_ticks)
{
	for (uint32_t i = 0; i < idle->count; i++)
		if (idle->list[i].pid == pid && idle->list[i].start_ticks == start_ticks)
			return &idle->list[i];
	return NULL;
}

void vac_idle_blind(struct vac_idle *idle)
{
	idle->look_ns = idle->look_us = idle->reach_us = 0;
	memset(idle->in_use, 0, sizeof(idle->in_use));
}

void vac_idle_free(struct vac_idle *idle)
{
	free(idle->list);
	memset(idle, 0, sizeof(*idle));
}

static struct vac_idle_process *add(struct vac_idle *idle, const struct vac_holder *holder,
				    int64_t now_ns)
{
	struct vac_idle_process *process;

	if (idle->count == idle->capacity) {
		uint32_t capacity = idle->capacity ? 2 * idle->capacity : 32;
		struct vac_idle_process *larger =
			realloc(idle->list, capacity * sizeof(*idle->list));

		if (!larger)
			return NULL;
		idle->list = larger;
		idle->capacity = capacity;
	}
	process = &idle->list[idle->count++];
	*process = (struct vac_idle_process){.pid = holder->pid,
					     .start_ticks = holder->start_ticks,
					     .cpu_ticks = holder->cpu_ticks,
					     .state = holder->state,
					     .since_ns = now_ns};
	return process;
}

static const struct vac_survey_process *find_on(const struct vac_survey_device *device,
						uint32_t nvml_pid)
{
	for (uint32_t i = 0; i < device->process_count; i++)
		if (device->processes[i].pid == nvml_pid)
			return &device->processes[i];
	return NULL;
}

/* Somebody uses the device, and no sample since the last look says who. One such look is
 * no doubt: samples come a little later than the device's own figure. */
static bool used_by_nobody(const struct vac_survey_device *device, int64_t since_us)
{
	if (!device->gpu_percent.valid || device->gpu_percent.value == 0)
		return false;
	for (uint32_t i = 0; i < device->process_count; i++)
		if (device->processes[i].used_at_us > since_us)
			return false;
	return true;
}

static void doubts(struct vac_idle *idle, const struct vac_survey *survey,
		   enum vac_idle_doubt out[VAC_SURVEY_MOST_DEVICES])
{
	idle->reach_us = 0;
	for (uint32_t i = 0; i < survey->count; i++) {
		const struct vac_survey_device *device = &survey->devices[i];
		int64_t reach_us = device->since_us ? survey->at_us - device->since_us : 0;
		bool again = idle->in_use[i];

		out[i] = VAC_IDLE_SURE;
		idle->in_use[i] = used_by_nobody(device, idle->look_us);
		if (!device->sampled || !device->gpu_percent.valid)
			out[i] = VAC_IDLE_UNTOLD;
		else if (device->since_us > idle->look_us)
			out[i] = VAC_IDLE_GAP;
		else if (idle->in_use[i] && again)
			out[i] = VAC_IDLE_NOBODY;
		if (reach_us > 0 && (idle->reach_us == 0 || reach_us < idle->reach_us))
			idle->reach_us = reach_us;
	}
}

/* Another process used the device since then. */
static bool used_by_others(const struct vac_survey_device *device, uint32_t nvml_pid,
			   int64_t since_us)
{
	for (uint32_t i = 0; i < device->process_count; i++)
		if (device->processes[i].pid != nvml_pid &&
		    device->processes[i].used_at_us > since_us)
			return true;
	return false;
}

/* Whether it took as much CPU time since the last look as one who launches kernels now and
 * then, and waits for them; an interpreter that waits for input takes less. */
static bool computes(const struct vac_idle *idle, const struct vac_idle_process *process,
		     const struct vac_holder *holder, int64_t now_ns)
{
	uint64_t ticks = holder->cpu_ticks - process->cpu_ticks;
	int64_t took_ns = (int64_t)ticks * (NS_PER_S / sysconf(_SC_CLK_TCK));

	return holder->cpu_ticks > process->cpu_ticks && took_ns >= CPU_LEAST_NS &&
	       took_ns >= (now_ns - idle->look_ns) / CPU_SHARE;
}

/* What its devices say of one process. */
static void update(const struct vac_idle *idle, struct vac_idle_process *process,
		   const struct vac_holder *holder, const struct vac_survey *survey,
		   const enum vac_idle_doubt *doubt, bool first_look, int64_t now_ns)
{
	bool active = computes(idle, process, holder, now_ns);

	process->cpu_ticks = holder->cpu_ticks;
	process->before = process->state;
	process->state = holder->state;
	process->doubt = VAC_IDLE_SURE;
	for (uint32_t i = 0; i < holder->part_count; i++) {
		uint32_t device = holder->parts[i].device;
		const struct vac_survey_process *found =
			find_on(&survey->devices[device], holder->nvml_pid);
		int64_t used_ns;

		/* What came before the first look counts for nothing. */
		if (doubt[device] == VAC_IDLE_UNTOLD || (doubt[device] && !first_look))
			process->doubt = doubt[device];
		if (active &&
		    used_by_others(&survey->devices[device], holder->nvml_pid, idle->look_us))
			process->since_ns = now_ns;
		if (!found || found->used_at_us == 0)
			continue;
		/* that was counted at the look before */
		if (found->used_at_us <= idle->look_us - VAC_SURVEY_LAG_US)
			continue;
		used_ns = now_ns;
		if (survey->at_us > found->used_at_us)
			used_ns -= (survey->at_us - found->used_at_us) * NS_PER_US;
		if (used_ns > process->since_ns)
			process->since_ns = used_ns;
	}
	process->doubtful = process->doubt != VAC_IDLE_SURE ? process->doubtful + 1 : 0;
	if (process->doubt != VAC_IDLE_SURE || process->state != process->before ||
	    process->missed || first_look)
		process->since_ns = now_ns;
}

/* What is not seen once is kept: NVML's list is older than what is on record of who is parked,
 * and a process that was resumed in between is in neither. */
static void forget_unseen(struct vac_idle *idle)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < idle->count; i++)
		if (idle->list[i].seen || !idle->list[i].missed)
			idle->list[kept++] = idle->list[i];
	idle->count = kept;
}

int vac_idle_look(struct vac_idle *idle, const struct vac_survey *survey,
		  const struct vac_holders *holders, int64_t now_ns, struct vac_error *err)
{
	enum vac_idle_doubt doubt[VAC_SURVEY_MOST_DEVICES];
	int64_t apart_ns = (survey->at_us - idle->look_us) * NS_PER_US - (now_ns - idle->look_ns);
	bool first_look;

	/* A clock was set, or the machine slept. */
	if (idle->look_ns != 0 && (apart_ns > JUMP_NS || apart_ns < -JUMP_NS))
		vac_idle_blind(idle);
	first_look = idle->look_ns == 0;
	doubts(idle, survey, doubt);
	for (uint32_t i = 0; i < idle->count; i++) {
		idle->list[i].missed = !idle->list[i].seen;
		idle->list[i].seen = false;
	}
	for (uint32_t i = 0; i < holders->count; i++) {
		const struct vac_holder *holder = &holders->list[i];
		struct vac_idle_process *process;

		if (holder->pid == 0)
			continue;
		process = vac_idle_find(idle, holder->pid, holder->start_ticks);
		if (!process)
			process = add(idle, holder, now_ns);
		if (!process) {
			vac_idle_blind(idle);
			return vac_fail_nomem(err, "the processes on the GPUs", 0);
		}
		process->seen = true;
		update(idle, process, holder, survey, doubt, first_look, now_ns);
	}
	forget_unseen(idle);
	idle->look_ns = now_ns;
	idle->look_us = survey->at_us;
	return 0;
}

void vac_idle_begin_anew(const struct vac_idle *idle, pid_t pid, uint64_t start_ticks,
			 int64_t now_ns)
{
	struct vac_idle_process *process = vac_idle_find(idle, pid, start_ticks);

	if (process)
		process->since_ns = now_ns;
}

int64_t vac_idle_ms(const struct vac_idle *idle, const struct vac_idle_process *process)
{
	if (process->doubt != VAC_IDLE_SURE || process->state != VAC_HOLD_RUNNING)
		return -1;
	/* begun anew since the last look */
	if (idle->look_ns < process->since_ns)
		return 0;
	return (idle->look_ns - process->since_ns) / NS_PER_MS;
}

int64_t vac_idle_next_ms(const struct vac_idle *idle, int64_t interval_ms)
{
	int64_t reach_ms = idle->reach_us / 1000 * 3 / 4;

	if (idle->reach_us == 0 || reach_ms >= interval_ms)
		return interval_ms;
	if (reach_ms < SHORTEST_MS)
		reach_ms = SHORTEST_MS;
	return reach_ms < interval_ms ? reach_ms : interval_ms;
}
