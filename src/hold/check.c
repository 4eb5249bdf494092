/*
 * check.c - what is looked at before a process is parked or resumed, so that what can
 * be known to fail is not begun. docs/hold.md lists the checks.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "hold/internal.h"
#include "memory/meter.h"

/* Of a server with thousands of connections the first are looked at. */
#define MOST_DESCRIPTORS 4096u

/* As the kernel cuts the names of nvidia-cuda-mps-server and -control. */
#define MPS_COMM "nvidia-cuda-mps"

static int check_driver(const struct vac_hold *hold, struct vac_error *err)
{
	if (vac_cuda_has_checkpoint(hold->cuda))
		return 0;
	return vac_fail(err, VAC_E_UNSUPPORTED,
			"the NVIDIA driver (for CUDA %d.%d) cannot park processes; install driver "
			"570 or later",
			hold->driver_version / 1000, hold->driver_version % 1000 / 10);
}

/* After all that can be looked at while NVML, which knows the version, still starts. */
static int check_tried(struct vac_hold *hold, struct vac_error *err)
{
	vac_hold_wait_nvml(hold);
	if (vac_hold_driver_tried(hold))
		return 0;
	return vac_fail(err, VAC_E_UNSUPPORTED,
			"parking was not tried with driver %s (CUDA %d.%d): a process may be lost "
			"by it; --risk does it all the same",
			*hold->driver_text ? hold->driver_text : "of unknown version",
			hold->driver_version / 1000, hold->driver_version % 1000 / 10);
}

static int check_owner(const struct vac_target *target, struct vac_error *err)
{
	if (geteuid() == 0 || geteuid() == target->uid)
		return 0;
	return vac_fail(
		err, VAC_E_IO,
		"process %d belongs to another user (uid %u): the driver lets only that user "
		"or root at it",
		(int)target->pid, (unsigned)target->uid);
}

static int take_lock(struct vac_hold_run *run, struct vac_hold_member *member)
{
	struct vac_error *err = &member->receipt->error;
	char name[80];
	pid_t holder;
	int rc;

	/* Named for records and locks, it is made; whether it will do is looked at with the
	 * first record. */
	if (strcmp(run->hold->lock_directory, run->hold->directory) == 0)
		(void)!mkdir(run->hold->directory, 0755);
	snprintf(name, sizeof(name), "vacate-process-%d-%" PRIu64 ".lock", (int)member->target->pid,
		 member->target->start_ticks);
	rc = vac_lock_take(&member->lock, run->hold->lock_directory, name, 0, NULL, NULL, &holder,
			   err);
	if (rc == -EAGAIN)
		vac_error_prefix(err, "process %d", (int)member->target->pid);
	return rc;
}

int vac_member_check(struct vac_hold_run *run, struct vac_hold_member *member)
{
	struct vac_error *err = &member->receipt->error;
	const struct vac_target *target = member->target;
	/* Giving back what is parked already is no risk that was not taken. */
	bool risk = run->options.risk || run->operation == VAC_HOLD_RESUME;
	enum vac_hold_state state;
	int rc;

	vac_run_progress(run, member, VAC_HOLD_CHECKING);
	if (!vac_target_alive(target))
		return vac_fail(err, VAC_E_NOT_FOUND, "process %d has ended", (int)target->pid);
	rc = check_owner(target, err);
	if (rc == 0)
		rc = check_driver(run->hold, err);
	if (rc == 0)
		rc = take_lock(run, member);
	if (rc < 0)
		return rc;
	/* until the driver is asked, which one that is stopped would not let answer */
	if (vac_record_find(run->hold, target, &member->record))
		member->state = member->record.state;
	else
		vac_record_init(&member->record, target);
	member->receipt->before = member->state;
	rc = vac_target_look(target, err);
	if (rc == 0)
		rc = vac_driver_state(run->hold, target, &state, err);
	if (rc < 0)
		return rc;
	member->state = state;
	if (member->state == VAC_HOLD_PARKED && member->record.state == VAC_HOLD_FAILED)
		member->state = VAC_HOLD_FAILED;
	member->receipt->before = member->state;
	member->plan = vac_hold_plan(run->operation, member->state);
	/* A record of an error may be wrong: who takes the risk may try once more. */
	if (member->state == VAC_HOLD_FAILED && run->operation == VAC_HOLD_RESUME &&
	    run->options.risk && state == VAC_HOLD_PARKED)
		member->plan = vac_hold_plan(run->operation, VAC_HOLD_PARKED);
	if (member->plan->refused == VAC_OK)
		return risk ? 0 : check_tried(run->hold, err);
	rc = vac_fail(err, member->plan->refused, "process %d %s", (int)target->pid,
		      member->plan->why);
	if (member->state == VAC_HOLD_FAILED && *member->record.error)
		vac_error_detail(err, "%.*s", (int)sizeof(err->detail) - 1, member->record.error);
	return rc;
}

/* Its open files can be seen, and are they an MPS client's? */
static bool look_at_files(const struct vac_target *target, bool *mps)
{
	char path[64], link[PATH_MAX];
	struct dirent *entry;
	int error = 0;
	DIR *stream;

	*mps = false;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)target->pid);
	stream = opendir(path);
	if (!stream)
		return false;
	for (unsigned i = 0; i < MOST_DESCRIPTORS && (entry = vac_next_entry(stream, &error));
	     i++) {
		ssize_t n = readlinkat(dirfd(stream), entry->d_name, link, sizeof(link) - 1);

		link[n > 0 ? n : 0] = '\0';
		*mps |= strstr(link, "/nvidia-mps/") != NULL;
	}
	closedir(stream);
	return error == 0;
}

static bool is_mps_server(unsigned pid)
{
	char path[64], comm[32];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, comm, sizeof(comm) - 1);
	close(fd);
	comm[n > 0 ? n : 0] = '\0';
	return strncmp(comm, MPS_COMM, strlen(MPS_COMM)) == 0;
}

static bool has_mps_server(const struct vac_nvml_device *device)
{
	for (uint32_t i = 0; i < device->process_count && i < VAC_NVML_MOST_PROCESSES; i++)
		if (is_mps_server(device->processes[i].pid))
			return true;
	return false;
}

/* One device on which it is listed goes into the record. */
static int add_use(struct vac_hold_member *member, const struct vac_nvml_device *device,
		   const struct vac_nvml_process *process)
{
	struct vac_record *record = &member->record;
	struct vac_record_device *to;

	if (process->gpu_instance != UINT32_MAX)
		return vac_fail(&member->receipt->error, VAC_E_UNSUPPORTED,
				"process %d is on a part of %s (MIG), which the driver cannot park",
				(int)member->target->pid, device->uuid);
	if (record->device_count == VAC_HOLD_MOST_DEVICES)
		return vac_fail(&member->receipt->error, VAC_E_UNSUPPORTED,
				"process %d is on more than %d GPUs", (int)member->target->pid,
				VAC_HOLD_MOST_DEVICES);
	to = &record->devices[record->device_count++];
	memset(to, 0, sizeof(*to));
	snprintf(to->uuid, sizeof(to->uuid), "%.*s", VAC_HOLD_UUID_BYTES - 1, device->uuid);
	/* UINT64_MAX is NVML's word for unknown; what the device has not cannot be right. */
	to->bytes_valid = process->used_bytes <= device->memory.total;
	to->bytes = to->bytes_valid ? process->used_bytes : 0;
	to->spare_bytes = device->memory.free < device->memory.total ? device->memory.free
								     : device->memory.total;
	member->use_known &= to->bytes_valid;
	member->use_bytes += to->bytes;
	return 0;
}

static int fail_mps(const struct vac_hold_member *member)
{
	return vac_fail(
		&member->receipt->error, VAC_E_UNSUPPORTED,
		"process %d shares the GPU by MPS (nvidia-cuda-mps-server), which the driver "
		"cannot park",
		(int)member->target->pid);
}

/* It goes to terminals. */
static void note_who(struct vac_record *record, const char *who)
{
	size_t n = 0;

	for (; who && who[n] && n < sizeof(record->who) - 1; n++)
		record->who[n] = (char)(who[n] >= ' ' && who[n] <= '~' ? who[n] : '?');
	record->who[n] = '\0';
}

int vac_member_check_use(struct vac_hold_run *run, struct vac_hold_member *member)
{
	const struct vac_hold_reading *reading = &run->reading;
	bool mps, seen = look_at_files(member->target, &mps);
	int pid = (int)member->target->pid, rc = 0;

	if (mps)
		return fail_mps(member);
	member->use_known = true;
	member->use_bytes = 0;
	member->record.device_count = 0;
	note_who(&member->record, run->options.who);
	for (uint32_t i = 0; rc == 0 && i < reading->count; i++) {
		const struct vac_nvml_process *process =
			vac_nvml_find(&reading->devices[i], (uint32_t)pid);

		if (!process)
			continue;
		if (has_mps_server(&reading->devices[i]))
			return fail_mps(member);
		rc = add_use(member, &reading->devices[i], process);
	}
	if (rc < 0)
		return rc;
	member->use_known &= member->record.device_count > 0;
	if (run->options.risk || (member->use_known && seen))
		return 0;
	if (!member->use_known)
		return vac_fail(
			&member->receipt->error, VAC_E_UNSUPPORTED,
			"process %d: NVML does not say what it has on a GPU (it has nothing "
			"there, or is in another pid namespace), so that room for it cannot be "
			"looked for; --risk does it all the same",
			pid);
	return vac_fail(
		&member->receipt->error, VAC_E_UNSUPPORTED,
		"process %d: its open files cannot be seen, so that it is not known what it "
		"uses; --risk does it all the same",
		pid);
}

static int fail_host(const struct vac_hold_member *member, uint64_t together, uint64_t room,
		     const char *of_what, const char *name)
{
	char need[VAC_HOLD_SIZE_TEXT_BYTES], all[VAC_HOLD_SIZE_TEXT_BYTES],
		free_text[VAC_HOLD_SIZE_TEXT_BYTES];
	bool others = together > member->use_bytes;

	vac_hold_size_text(together, all);
	return vac_fail(
		&member->receipt->error, VAC_E_NO_ROOM,
		"process %d needs %s of host RAM for what it has on the GPU%s%s%s, and %s are "
		"free (%s%s)",
		(int)member->target->pid, vac_hold_size_text(member->use_bytes, need),
		others ? " (" : "", others ? all : "", others ? " with the others)" : "",
		vac_hold_size_text(room, free_text), of_what, name);
}

/* The copy is made by a thread of the process itself, and so charged to its group. */
int vac_run_check_host(struct vac_hold_run *run, struct vac_hold_member **refused)
{
	uint64_t all = 0;

	for (size_t i = 0; i < run->count; i++) {
		struct vac_hold_member *member = &run->members[i];
		struct vac_host_memory host;
		uint64_t here = 0;

		*refused = member;
		if (member->state == VAC_HOLD_PARKED)
			continue;
		vac_meter_host_of(run->hold->host_root, member->target->pid, &host, member->group,
				  sizeof(member->group));
		for (size_t k = 0; k <= i; k++)
			if (run->members[k].state != VAC_HOLD_PARKED &&
			    strcmp(run->members[k].group, member->group) == 0)
				here += run->members[k].use_bytes;
		all += member->use_bytes;
		if (!host.available_valid && !host.cgroup_room_valid && !run->options.risk)
			return vac_fail(
				&member->receipt->error, VAC_E_UNSUPPORTED,
				"process %d: it is not known how much host RAM is free; --risk "
				"does it all the same",
				(int)member->target->pid);
		if (host.cgroup_room_valid && here > host.cgroup_room_bytes)
			return fail_host(member, here, host.cgroup_room_bytes, "control group ",
					 member->group);
		if (host.available_valid && all > host.available_bytes)
			return fail_host(member, all, host.available_bytes, "of the machine", "");
	}
	return 0;
}
