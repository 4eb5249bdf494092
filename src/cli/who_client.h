/*
 * who_client.h - who is on the GPUs of this machine, asked of a vacate-gpud of one's
 * own: this program never maps a driver's library. One thread.
 */
#ifndef VAC_CLI_WHO_CLIENT_H
#define VAC_CLI_WHO_CLIENT_H

#include "cli/worker_client.h"
#include "base/survey.h"

/* NVML may hang where a GPU is lost. */
#define VAC_WHO_TIMEOUT_MS 10000

struct vac_who_client {
	struct vac_worker_client gpud;
	uint64_t question; /* number of the newest */
};

/* Sends the question; starts vacate-gpud first if it does not run. Nothing is waited
 * for but its hello. */
int vac_who_ask(struct vac_who_client *who, struct vac_error *err) VAC_MUST_CHECK;
/* Waits for the answer. *out is the caller's to free (vac_survey_free), empty on error.
 * VAC_E_TIMEOUT: vacate-gpud was killed. Another question starts it again. */
int vac_who_answer(struct vac_who_client *who, int timeout_ms, struct vac_survey *out,
		   struct vac_error *err) VAC_MUST_CHECK;
/* To poll for the answer; -1: no question is under way. */
int vac_who_fd(const struct vac_who_client *who);
void vac_who_close(struct vac_who_client *who);

#endif
