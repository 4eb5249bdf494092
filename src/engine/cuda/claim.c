/*
 * claim.c - the lock of the device (hold/lock.h), taken for the moment of an allocation
 * of size: the context, a region. `vacate resume` holds it from its look at the
 * device's room to the end of the restore; what anybody took in between would lose the
 * process that is restored for good. What is smaller (modules, cuBLASLt's handle, graphs)
 * is not claimed: the margin that a restore keeps free is for that.
 *
 * Beside nobody a claim is two system calls on a file that stays open. Beside a restore
 * it is not waited for in one piece: the engine asks again, and goes on answering.
 * Nobody is refused the device for want of a lock: where its file cannot be used, a line
 * says so, once.
 *
 * Called by one thread at a time: the one that brings the device up, then the engine's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/cuda/backend.h"

#define POLL_US  5000
#define LAPSE_NS 1000000000 /* who asks no more for so long has given up */

/* A restore of 80 GiB takes about 11 s. */
uint32_t vac_cuda_claim_limit_ms = 30000;

/* Goes on without. The line is told when the engine's thread is there to tell it. */
static void do_without(struct vac_compute *c, const char *why)
{
	struct vac_cuda_claim *claim = &c->claim;
	vac_lock_release(&claim->lock, false);
	claim->off = true;
	if (claim->told)
		return;
	snprintf(claim->warning, sizeof(claim->warning),
		 "cuda:%u is used without the lock that keeps memory free for a process that is "
		 "being resumed: %.300s",
		 c->ordinal, why);
}

void vac_cuda_claim_warn(struct vac_compute *c)
{
	struct vac_cuda_claim *claim = &c->claim;
	if (!*claim->warning)
		return;
	if (c->warn)
		c->warn(c->warn_ctx, claim->warning);
	*claim->warning = '\0';
	claim->told = true;
}

void vac_cuda_claim_open(struct vac_compute *c)
{
	char uuid[VAC_CUDA_UUID_BYTES];
	struct vac_error err;
	c->claim.off = false;
	c->claim.since_ns = 0;
	int rc = vac_cuda_uuid(c->cuda, c->device, uuid);
	if (rc != VAC_CU_OK)
		do_without(c, "the driver does not tell the GPU's UUID");
	else if (vac_lock_open_device(&c->claim.lock, vac_lock_directory(), uuid, &err) < 0)
		do_without(c, err.message);
}

void vac_cuda_claim_close(struct vac_compute *c)
{
	vac_lock_release(&c->claim.lock, false);
}

/* It has been another's for too long. */
static int fail_busy(struct vac_compute *c, struct vac_error *err)
{
	c->claim.since_ns = 0;
	vac_error_prefix(err, "cuda:%u gave no memory for %u s, since a process is being resumed",
			 c->ordinal, vac_cuda_claim_limit_ms / 1000);
	return -EAGAIN;
}

int vac_cuda_claim(struct vac_compute *c, struct vac_error *err)
{
	struct vac_cuda_claim *claim = &c->claim;
	struct vac_error why;
	pid_t holder;
	if (claim->off)
		return 0;
	int rc = vac_lock_retake(&claim->lock, 0, NULL, NULL, &holder, &why);
	if (rc == 0) {
		claim->since_ns = 0;
		return 0;
	}
	if (rc != -EAGAIN) {
		do_without(c, why.message);
		return 0;
	}
	int64_t now = vac_now_ns();
	if (claim->since_ns == 0 || now - claim->asked_ns > LAPSE_NS)
		claim->since_ns = now;
	claim->asked_ns = now;
	if (now - claim->since_ns >= (int64_t)vac_cuda_claim_limit_ms * 1000000) {
		if (err)
			*err = why;
		return fail_busy(c, err);
	}
	usleep(POLL_US);
	return 1;
}

void vac_cuda_yield(struct vac_compute *c)
{
	vac_lock_leave(&c->claim.lock);
}
