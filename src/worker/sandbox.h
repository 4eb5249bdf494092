/*
 * sandbox.h - what a worker may still do once it reads models.
 *
 * A worker parses files that strangers made and computes with numbers that they
 * chose. Before the first of their bytes is read it gives up what neither needs:
 * new programs, processes, sockets, signals to others, executable memory, and
 * opening files (they are handed to it, base/handed.h). Two walls do it, each as
 * far as the kernel has it: a filter of system calls (filter.h), and Landlock
 * (landlock.h) behind it.
 *
 * Called once, by the only thread there is, when the backend's module is loaded
 * and before its thread team is made: threads inherit what they were made under.
 */
#ifndef VAC_WORKER_SANDBOX_H
#define VAC_WORKER_SANDBOX_H

#include "engine/compute.h"
#include "wire/spawn.h"
#include "worker/filter.h"
#include "worker/landlock.h"

/* What a backend needs beyond what every worker does. Its calls are looked at
 * before the common ones. A backend whose libraries open files (devices, drivers)
 * tells the places itself (places of struct vac_backend); without Landlock the calls
 * would reach every file, so that such a profile needs both walls. Under auto
 * VACATE_GPU_SANDBOX may change a profile that has calls (request.h). */
struct vac_sandbox_profile {
	const char *backend; /* "cpu" */
	const struct vac_call_rule *calls;
	size_t call_count;
};

/* NULL: nobody wrote down what that backend needs, so it cannot be confined. */
const struct vac_sandbox_profile *vac_sandbox_profile(const char *backend);

/* Says in words what was reached: "seccomp, landlock 7", "seccomp, no landlock
 * (WHY)", or "none (WHY)". Fails only when mode is VAC_SANDBOX_REQUIRE and
 * something is missing that the profile cannot do without. socket: the descriptor
 * that stays open besides standard error. */
int vac_sandbox_enter(enum vac_sandbox_mode mode, const struct vac_backend *backend, int socket,
		      char *got, size_t room, struct vac_error *err) VAC_MUST_CHECK;

#endif
