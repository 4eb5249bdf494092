/*
 * fake_cuda.h - a driver, a cuBLASLt and an NVRTC without a GPU: device memory is
 * host memory, and kernels and products of float32 are computed at once, by the
 * reference backend, or recorded and computed when their graph is launched. What is
 * created and not given back is counted, and any call can be made to fail. Install before the engine is opened.
 */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include <stdbool.h>
#include <stdint.h>

struct fake_cuda {
	/* what the device is */
	int driver, devices, major, minor, vmm;
	bool no_uuid;        /* the driver does not tell */
	const char *name;    /* NULL: "Fake GPU" */
	uint64_t room_bytes; /* of device memory */
	/* what lives: all 0 in the end */
	int contexts, streams, events, modules, reserved, memories, mapped, registered, handles,
		blas_objects;
	int depth; /* contexts pushed on the calling threads */
	uint64_t used_bytes;
	/* The call of that number (from 0) fails with this result, counted over all
	 * that may fail; -1: none. After it, and if it lasts, all. */
	long fail_at;
	int fail_with;
	int fail_lasts;
	long calls;
	const char *failed; /* which one did */
	/* the same for cuBLASLt */
	long blas_fail_at, blas_calls;
	/* The heuristic knows one more algorithm than so many, the last the only fast
	 * one; which one was used last. */
	int blas_slow, blas_last;
	unsigned blas_sleep_us; /* what the others take */
	long blas_used[4];      /* how often each was */
	uint64_t blas_refuses;  /* rows that all but the first refuse; 0: none */
	bool blas_idle;         /* products are asked for and not computed */
	long slow;              /* looks at an event before it is done */
	bool hangs;             /* no batch that was asked for ends */
	long marks;             /* events recorded */
	/* stream_synchronize gives this instead of success, if not 0 */
	int sticky;
	long launches;
	/* NULL, or called inside of what takes much of the device's memory */
	void (*taking)(void);
	/* graphs: what lives, how often one was played, what each takes of the device */
	int graphs, execs;
	long plays;
	uint64_t graph_bytes;
	/* of kernels: sets compiled, and what was loaded last */
	int compiled;
	const void *loaded;
	const void *refused_image; /* the driver finds no code for the GPU in this one */
};
extern struct fake_cuda fake_cuda;

/* A new device with an H100's marks; forgets all counts. */
void fake_cuda_reset(void);
void fake_cuda_install(void);
void fake_cuda_remove(void);
/* The sum of what lives. */
int fake_cuda_live(void);

#endif
