/* holding.c - see holding.h. */
#include "gpud/holding.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"

/* What the wire says is what hold says. */
_Static_assert((int)VAC_WIRE_HELD_UNKNOWN == (int)VAC_HOLD_UNKNOWN &&
		       (int)VAC_WIRE_HELD_RUNNING == (int)VAC_HOLD_RUNNING &&
		       (int)VAC_WIRE_HELD_LOCKED == (int)VAC_HOLD_LOCKED &&
		       (int)VAC_WIRE_HELD_PARKED == (int)VAC_HOLD_PARKED &&
		       (int)VAC_WIRE_HELD_FAILED == (int)VAC_HOLD_FAILED,
	       "states of docs/wire.md");
_Static_assert(VAC_HOLD_CHECKING == 0 && VAC_HOLD_MEASURING == VAC_WIRE_HOLD_PHASES - 1,
	       "phases of docs/wire.md");
_Static_assert(VAC_WIRE_MAX_TARGETS == VAC_HOLD_MOST_TARGETS &&
		       VAC_WIRE_MAX_HELD_DEVICES >= VAC_HOLD_MOST_DEVICES &&
		       VAC_WIRE_UUID_BYTES >= VAC_HOLD_UUID_BYTES &&
		       VAC_WIRE_COMMAND_BYTES >= VAC_TARGET_COMMAND_BYTES &&
		       VAC_WIRE_WHO_BYTES == VAC_HOLD_WHO_BYTES,
	       "what hold says fits into a frame");

int vac_holding_open(struct vac_holding *holding, struct vac_error *err)
{
	memset(holding, 0, sizeof(*holding));
	pthread_mutex_init(&holding->lock, NULL);
	holding->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (holding->event_fd < 0)
		return vac_fail_errno(err, errno, "cannot make an event descriptor");
	return 0;
}

static void wake(struct vac_holding *holding)
{
	const uint64_t one = 1;

	/* It fails when it is full: then it is readable. */
	(void)!write(holding->event_fd, &one, sizeof(one));
}

static void on_phase(void *ctx, size_t target, enum vac_hold_phase phase)
{
	struct vac_holding *holding = ctx;
	const struct vac_wire_hold_phase frame = {.target = (uint32_t)holding->places[target],
						  .phase = (uint32_t)phase};

	pthread_mutex_lock(&holding->lock);
	vac_wire_put_hold_phase(&holding->frames, holding->id, &frame);
	pthread_mutex_unlock(&holding->lock);
	wake(holding);
}

static bool on_cancelled(void *ctx)
{
	struct vac_holding *holding = ctx;

	return atomic_load(&holding->cancelled);
}

static void copy_memory(struct vac_wire_held_memory *to, const struct vac_hold_device *from)
{
	*to = (struct vac_wire_held_memory){.listed = from->listed,
					    .bytes_valid = from->bytes_valid,
					    .bytes = from->bytes,
					    .used_bytes = from->used_bytes,
					    .total_bytes = from->total_bytes};
}

static void copy_receipt(struct vac_wire_held_target *to, const struct vac_hold_receipt *from)
{
	*to = (struct vac_wire_held_target){
		.pid = (uint32_t)from->pid,
		.uid = from->uid,
		.before = (enum vac_wire_held_state)from->before,
		.after = (enum vac_wire_held_state)from->after,
		.rss_valid = from->rss_valid,
		.pageout_valid = from->pageout_valid,
		.rss_before_bytes = from->rss_before_bytes,
		.rss_after_bytes = from->rss_after_bytes,
		.pageout_bytes = from->pageout_bytes,
		.swapped_bytes = from->swapped_bytes,
		.lock_ns = from->lock_ns,
		.checkpoint_ns = from->checkpoint_ns,
		.restore_ns = from->restore_ns,
		.unlock_ns = from->unlock_ns,
		.driver_ns = from->driver_ns,
		.total_ns = from->total_ns,
		.error = from->error,
	};
	memcpy(to->command, from->command, sizeof(from->command));
	for (uint32_t i = 0; i < from->device_count && i < VAC_HOLD_MOST_DEVICES; i++) {
		memcpy(to->devices[i].uuid, from->devices_before[i].uuid,
		       sizeof(from->devices_before[i].uuid));
		copy_memory(&to->devices[i].before, &from->devices_before[i]);
		copy_memory(&to->devices[i].after, &from->devices_after[i]);
		to->device_count++;
	}
}

static int look(struct vac_holding *holding, const struct vac_target *targets, size_t count,
		struct vac_error *err)
{
	for (size_t i = 0; i < count; i++) {
		struct vac_wire_held_target *out = &holding->answer->targets[holding->places[i]];
		enum vac_hold_state state = VAC_HOLD_UNKNOWN;
		int rc = vac_hold_state(&holding->hold, &targets[i], &state, &out->error);

		out->before = out->after = (enum vac_wire_held_state)state;
		if (rc == 0)
			continue;
		/* Of a process that ended meanwhile the others' state is still asked for. */
		if (out->error.code != VAC_E_NOT_FOUND) {
			*err = out->error;
			return rc;
		}
	}
	return 0;
}

static int move(struct vac_holding *holding, const struct vac_target *targets, size_t count,
		struct vac_error *err)
{
	const struct vac_wire_hold *question = &holding->question;
	struct vac_hold_options options = {.lock_timeout_ms = question->lock_timeout_ms,
					   .wait_ms = question->wait_ms,
					   .risk = question->risk,
					   .pageout = question->pageout,
					   .who = holding->who,
					   .progress = on_phase,
					   .cancelled = on_cancelled,
					   .ctx = holding};
	struct vac_hold_receipt *receipts = calloc(count, sizeof(*receipts));
	int rc;

	if (!receipts)
		return vac_fail_nomem(err, "the receipts", count * sizeof(*receipts));
	memcpy(options.device_uuid, holding->device_uuid, sizeof(options.device_uuid));
	rc = question->operation == VAC_WIRE_HOLD_PARK
		     ? vac_hold_park(&holding->hold, targets, count, &options, receipts, err)
		     : vac_hold_resume(&holding->hold, targets, count, &options, receipts, err);
	for (size_t i = 0; i < count; i++)
		copy_receipt(&holding->answer->targets[holding->places[i]], &receipts[i]);
	free(receipts);
	return rc;
}

/* Opens what the question names. What is gone is refused in its own receipt; the
 * first of those is *refused. Returns how many there are. */
static size_t open_targets(struct vac_holding *holding, struct vac_target *targets,
			   struct vac_error *refused)
{
	size_t count = 0;

	for (uint32_t i = 0; i < holding->question.count; i++) {
		const struct vac_wire_hold_target *named = &holding->question.targets[i];
		struct vac_wire_held_target *out = &holding->answer->targets[i];
		struct vac_target *target = &targets[count];

		out->pid = named->pid;
		if (vac_target_open((pid_t)named->pid, target, &out->error) < 0)
			goto gone;
		out->uid = target->uid;
		memcpy(out->command, target->command, sizeof(target->command));
		if (target->start_ticks != named->start_ticks) {
			vac_target_close(target);
			vac_fail(&out->error, VAC_E_NOT_FOUND,
				 "process %u has ended, and another one has its number",
				 named->pid);
			goto gone;
		}
		holding->places[count++] = i;
		continue;
	gone:
		if (refused->code == VAC_OK)
			*refused = out->error;
	}
	return count;
}

static void do_it(struct vac_holding *holding)
{
	struct vac_target targets[VAC_WIRE_MAX_TARGETS];
	struct vac_error refused = {0}, err = {0};
	bool park = holding->question.operation == VAC_WIRE_HOLD_PARK;
	size_t count;
	int rc = 0;

	holding->answer->count = holding->question.count;
	if (!holding->opened) {
		rc = vac_hold_open(&holding->hold, &holding->answer->error);
		holding->opened = rc == 0;
		/* Whoever asked need not wait for it, nor hear nothing if it hangs. */
		holding->hold.init_may_stay = true;
	}
	if (rc < 0)
		return;
	count = open_targets(holding, targets, &refused);
	/* Parked are all or none. */
	if (count > 0 && !(park && refused.code != VAC_OK))
		rc = holding->question.operation == VAC_WIRE_HOLD_STATE
			     ? look(holding, targets, count, &err)
			     : move(holding, targets, count, &err);
	for (size_t i = 0; i < count; i++)
		vac_target_close(&targets[i]);
	if (rc < 0)
		holding->answer->error = err;
	else if (holding->question.operation != VAC_WIRE_HOLD_STATE)
		holding->answer->error = refused;
	memcpy(holding->answer->driver, holding->hold.driver_text,
	       sizeof(holding->hold.driver_text));
}

static void *thread_main(void *ctx)
{
	struct vac_holding *holding = ctx;

	do_it(holding);
	pthread_mutex_lock(&holding->lock);
	vac_wire_put_held(&holding->frames, holding->id, holding->answer);
	holding->done = true;
	pthread_mutex_unlock(&holding->lock);
	wake(holding);
	return NULL;
}

int vac_holding_begin(struct vac_holding *holding, uint64_t id, const uint8_t *payload,
		      size_t bytes, struct vac_error *err)
{
	sigset_t all, ours;
	int rc;

	if (holding->running)
		return vac_fail(err, VAC_E_BUSY,
				"vacate-gpud parks or resumes another process now");
	rc = vac_wire_get_hold(payload, bytes, &holding->question, err);
	if (rc < 0)
		return rc;
	memset(holding->device_uuid, 0, sizeof(holding->device_uuid));
	memcpy(holding->device_uuid, holding->question.device_uuid.text,
	       holding->question.device_uuid.bytes);
	memset(holding->who, 0, sizeof(holding->who));
	memcpy(holding->who, holding->question.who.text, holding->question.who.bytes);
	holding->answer = calloc(1, sizeof(*holding->answer));
	if (!holding->answer)
		return vac_fail_nomem(err, "the receipts", sizeof(*holding->answer));
	holding->id = id;
	holding->done = false;
	atomic_store(&holding->cancelled, false);
	/* What is begun with a process is brought to an end, whatever becomes of who
	 * asked: the socket says when he is gone. */
	prctl(PR_SET_PDEATHSIG, 0);
	/* Signals are the first thread's: no call of the driver is to end by one. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &ours);
	rc = pthread_create(&holding->thread, NULL, thread_main, holding);
	pthread_sigmask(SIG_SETMASK, &ours, NULL);
	if (rc != 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		free(holding->answer);
		holding->answer = NULL;
		return vac_fail_errno(err, rc, "cannot start a thread");
	}
	holding->running = true;
	return 0;
}

void vac_holding_cancel_any(struct vac_holding *holding)
{
	atomic_store(&holding->cancelled, true);
}

void vac_holding_cancel(struct vac_holding *holding, uint64_t id)
{
	if (holding->running && holding->id == id)
		vac_holding_cancel_any(holding);
}

static void join(struct vac_holding *holding)
{
	pthread_join(holding->thread, NULL);
	holding->running = false;
	free(holding->answer);
	holding->answer = NULL;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

void vac_holding_take(struct vac_holding *holding, struct vac_buf *out)
{
	uint64_t count;
	bool done;

	(void)!read(holding->event_fd, &count, sizeof(count));
	pthread_mutex_lock(&holding->lock);
	vac_buf_put(out, holding->frames.data, holding->frames.bytes);
	out->failed |= !vac_buf_ok(&holding->frames);
	vac_buf_reset(&holding->frames);
	done = holding->done;
	pthread_mutex_unlock(&holding->lock);
	if (done && holding->running)
		join(holding);
}

void vac_holding_close(struct vac_holding *holding)
{
	if (holding->running)
		join(holding);
	if (holding->opened) {
		vac_hold_finish(&holding->hold);
		vac_hold_close(&holding->hold);
	}
	if (holding->event_fd >= 0)
		close(holding->event_fd);
	vac_buf_free(&holding->frames);
	pthread_mutex_destroy(&holding->lock);
}
