/*
 * gpus.h - what is on the GPUs, asked of vacate-gpud.
 *
 * A reading is made after it was asked for: whoever waits gets one that began
 * later than his question, and several who ask at once share it. vacate-gpud is
 * started by the first question; it ends when nobody has asked for a while and no
 * worker is on a GPU. Its death costs a reading. The loop's thread only.
 */
#ifndef VAC_SERVER_GPUS_H
#define VAC_SERVER_GPUS_H

#include "server/supervisor.h"

struct vac_gpu {
	char device[16]; /* "cuda:0" */
	char name[96];
	char uuid[48];
	uint64_t total_bytes, used_bytes; /* by NVML, of all processes */
	uint32_t process_count;
	struct vac_wire_gpu_process processes[VAC_WIRE_MAX_GPU_PROCESSES];
};

/* Embedded in whoever asks. */
struct vac_gpus_wait {
	struct vac_gpus_wait *next;
	/* There is a reading now, or gpus->error says why not. NULL: it does not wait. */
	void (*done)(struct vac_gpus_wait *wait);
	/* Called once before done, when vacate-gpud has the question: what the asker
	 * measures himself meanwhile. It asks nothing. May be NULL. */
	void (*meanwhile)(struct vac_gpus_wait *wait);
};

struct vac_gpus {
	struct vac_supervisor *supervisor;
	struct vac_gpu *list; /* owned; room for VAC_WIRE_MAX_GPUS; NULL: never asked */
	uint32_t count;
	int64_t read_ns;              /* when the last reading came; 0: never */
	struct vac_error error;       /* of the last reading; code VAC_OK: none */
	struct vac_exchange exchange; /* the reading under way */
	bool again;                   /* another one is wanted after it */
	bool telling;                 /* those who waited are told of a reading */
	struct vac_gpus_wait *waits;  /* for the reading under way */
	struct vac_gpus_wait *later;  /* for the one after it */
	struct vac_timer timer;       /* the end of vacate-gpud */
	void (*changed)(void *ctx);   /* after each reading, before those who waited are told */
	bool (*in_use)(void *ctx);    /* a worker is on a GPU, or vacate-gpud has other work */
	void *ctx;
};

int vac_gpus_init(struct vac_gpus *gpus, struct vac_supervisor *supervisor,
		  struct vac_error *err) VAC_MUST_CHECK;
void vac_gpus_free(struct vac_gpus *gpus);

/* Asks for a reading; done() follows, even at once when it fails. One that waits already
 * waits for this one instead. */
void vac_gpus_ask(struct vac_gpus *gpus, struct vac_gpus_wait *wait,
		  void (*done)(struct vac_gpus_wait *wait));
void vac_gpus_ask_and(struct vac_gpus *gpus, struct vac_gpus_wait *wait,
		      void (*meanwhile)(struct vac_gpus_wait *wait),
		      void (*done)(struct vac_gpus_wait *wait));
/* Asks for one that nobody waits for, unless one is under way. */
void vac_gpus_refresh(struct vac_gpus *gpus);
/* Ends vacate-gpud, if it runs; the next question starts it again. */
void vac_gpus_end(struct vac_gpus *gpus);
/* Its asker left. Not waiting: nothing happens. */
void vac_gpus_unwait(struct vac_gpus *gpus, struct vac_gpus_wait *wait);
/* As last read; NULL: there is no such GPU, or the last reading failed. */
const struct vac_gpu *vac_gpus_find(const struct vac_gpus *gpus, const char *device);
/* What a process has there; NULL: it is not listed. */
const struct vac_wire_gpu_process *vac_gpu_process(const struct vac_gpu *gpu, pid_t pid);

#endif
