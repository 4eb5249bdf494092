/*
 * gpu_reading.h - what NVML says of a GPU and of one process there, asked of a
 * vacate-gpud of one's own: what `vacate run` uses instead of a server's. One thread.
 */
#ifndef VAC_CLI_GPU_READING_H
#define VAC_CLI_GPU_READING_H

#include "cli/worker_client.h"

/* Asks gpud, which it starts if it is not running, about a device ("cuda:0") and
 * the process pid. On error *out is not valid, and says nothing. Stop gpud with
 * vac_client_stop(). */
int vac_gpu_read(struct vac_worker_client *gpud, const char *device, pid_t pid,
		 struct vac_device_memory *out, struct vac_error *err) VAC_MUST_CHECK;

#endif
