/* who_client.c - see who_client.h. */
#include "cli/who_client.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "wire/who.h"

#define NS_PER_MS 1000000

int vac_who_ask(struct vac_who_client *who, struct vac_error *err)
{
	const struct vac_spawn_options options = {.device = VAC_SPAWN_GPUS};
	int rc = 0;

	if (who->gpud.process.pid == 0)
		rc = vac_client_start(&who->gpud, &options, err);
	if (rc < 0)
		return rc;
	vac_wire_put_empty(&who->gpud.out, VAC_WIRE_WHO, ++who->question);
	rc = vac_client_send(&who->gpud, err);
	if (rc < 0)
		vac_who_close(who);
	return rc;
}

static int wait_for(int fd, int timeout_ms)
{
	return vac_client_poll(fd, vac_now_ns() + (int64_t)timeout_ms * NS_PER_MS);
}

int vac_who_answer(struct vac_who_client *who, int timeout_ms, struct vac_survey *out,
		   struct vac_error *err)
{
	struct vac_wire_header header;
	const uint8_t *payload;
	int rc;

	memset(out, 0, sizeof(*out));
	if (wait_for(who->gpud.process.fd, timeout_ms) < 0) {
		vac_client_abandon(&who->gpud);
		return vac_fail(
			err, VAC_E_TIMEOUT,
			"NVML did not answer in %d s; dmesg may say what is wrong with a GPU",
			timeout_ms / 1000);
	}
	/* What has begun to come is soon all there. */
	who->gpud.until_ns = vac_now_ns() + (int64_t)timeout_ms * NS_PER_MS;
	rc = vac_client_wait(&who->gpud, VAC_WIRE_WHO_READ, who->question, NULL, NULL, &header,
			     &payload, err);
	who->gpud.until_ns = 0;
	if (rc == -ETIMEDOUT)
		vac_client_abandon(&who->gpud);
	if (rc == 0)
		return vac_wire_get_who(payload, header.payload_bytes, out, err);
	/* It died. What it refused, it may answer later. */
	if (who->gpud.exited)
		vac_who_close(who);
	return rc;
}

int vac_who_fd(const struct vac_who_client *who)
{
	return who->gpud.process.pid ? who->gpud.process.fd : -1;
}

void vac_who_close(struct vac_who_client *who)
{
	const struct vac_worker_process *gpud = &who->gpud.process;

	/* The system closes what it has of the driver, where it may hang like anywhere else. */
	if (gpud->pid != 0 && !who->gpud.exited && gpud->pidfd >= 0) {
		vac_buf_reset(&who->gpud.out);
		vac_wire_put_empty(&who->gpud.out, VAC_WIRE_SHUTDOWN, 0);
		if (vac_client_send(&who->gpud, NULL) == 0 &&
		    wait_for(gpud->pidfd, VAC_WHO_TIMEOUT_MS) < 0) {
			vac_client_abandon(&who->gpud);
			return;
		}
	}
	vac_client_stop(&who->gpud);
}
