/*
 * vacate.h - models move in, answer, and move out, and leave nothing behind.
 *
 * The public interface of libvacate: open a device, load a HuggingFace
 * checkpoint, ask it, unload it, and get a receipt of the memory that came
 * back. All in the caller's own process; nothing of it needs to end.
 *
 *	struct vacate *v;
 *	struct vacate_model *m;
 *	vacate_open(&v, NULL, &err);
 *	vacate_load(v, "path/to/all-MiniLM-L6-v2", &m, &err);
 *	vacate_embed(m, &text, 1, NULL, vector, &err);   (vacate_dimensions(m) floats)
 *	vacate_unload(m, &receipt);
 *	vacate_close(v);
 *
 * The library never prints and never exits: functions return 0 or a negative
 * errno and fill the caller's struct vac_error, which may be NULL.
 *
 * Threads: a struct vacate and its models belong to one thread at a time;
 * different ones may be used by different threads at once.
 *
 * At the end: what other processes have on a GPU, and parking them to 0 MiB.
 */
#ifndef VACATE_H
#define VACATE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define VACATE_API __attribute__((visibility("default")))
#else
#define VACATE_API
#endif

/* What kind of failure it was. The number is stable; it also travels in wire
 * frames. vac_error_errno() gives the errno that functions return for it. */
enum vac_error_code {
	VAC_OK = 0,
	VAC_E_INVALID = 1,     /* malformed or out-of-range argument or request: EINVAL */
	VAC_E_NOT_FOUND = 2,   /* no such model, file or object: ENOENT */
	VAC_E_UNSUPPORTED = 3, /* well formed, but not something Vacate can serve: ENOTSUP */
	VAC_E_TOO_LARGE = 4,   /* longer or larger than a stated limit: E2BIG */
	VAC_E_NO_ROOM = 5,     /* not enough memory (or descriptors, or processes): ENOMEM */
	VAC_E_BUSY = 6,        /* a queue is full or the name is being drained: EAGAIN */
	VAC_E_IO = 7,          /* the system refused to read or write: EIO */
	VAC_E_CORRUPT = 8,     /* a file's content breaks its format's rules: EBADMSG */
	VAC_E_TIMEOUT = 9,     /* a limit of time passed: ETIMEDOUT */
	VAC_E_GONE = 10,       /* the process that should answer died: EPIPE */
	VAC_E_CANCELLED = 11,  /* given up by the caller: ECANCELED */
	VAC_E_INTERNAL = 12,   /* a bug of ours or a library's refusal: EPROTO */
};

/* One failure. message is one sentence: what was wrong, where (file, tensor,
 * byte or JSON position) and what to do. detail is empty or holds what a
 * machine may want to know more (a library's own status, for example).
 * Both are NUL-terminated UTF-8. */
struct vac_error {
	enum vac_error_code code;
	char message[512];
	char detail[256];
};

/* The version of the library at run time: "0.1.0". */
VACATE_API const char *vacate_version(void);

/* One device, open in this process. Owns its models. */
struct vacate;
/* One resident model. */
struct vacate_model;

/* Zero-initialise, then set what is wanted: 0 and NULL are the defaults. */
struct vacate_options {
	const char *backend;       /* NULL: the device's; or "reference" (plain C, slow) */
	uint32_t threads;          /* of the compute team; 0: as many as CPUs are allowed */
	uint32_t max_batch_tokens; /* longest batch, in tokens; 0: the backend's choice */
	const char *device;        /* "cpu" (the default), "cuda:0", ... */
	const char *dtype;         /* of the computation: "float32" (all there is on a cpu), on a
	                            * GPU "float16" (the default), "bfloat16" or "float32" */
};

/* options may be NULL. On error *out is untouched and nothing is left. A GPU is
 * not touched before the first load, and after the last unload nothing of this
 * process is on it any more: the CUDA context is Vacate's own (never the primary
 * one) and goes with the last model. */
VACATE_API int vacate_open(struct vacate **out, const struct vacate_options *options,
			   struct vac_error *err);
/* Unloads what is still resident and closes the device. NULL is fine. */
VACATE_API void vacate_close(struct vacate *vacate);

/* Bytes that a load of this directory will map for its regions, in whole
 * pages, known from the checkpoint's headers: nothing is loaded. */
VACATE_API int vacate_plan(struct vacate *vacate, const char *path, uint64_t *bytes,
			   struct vac_error *err);

/* Loads the checkpoint in a directory, or (with a name like
 * "sentence-transformers/all-MiniLM-L6-v2") in the HuggingFace cache
 * (HF_HUB_CACHE, HF_HOME). Blocks until it is resident. On error *out is
 * untouched and every byte is back. */
VACATE_API int vacate_load(struct vacate *vacate, const char *path, struct vacate_model **out,
			   struct vac_error *err);

/* Width of an embedding; longest input in tokens, special tokens included. */
VACATE_API uint32_t vacate_dimensions(const struct vacate_model *model);
VACATE_API uint32_t vacate_max_tokens(const struct vacate_model *model);

/* Zero-initialise for the checkpoint's own ways. */
struct vacate_embed_options {
	int normalize;       /* 0: as the checkpoint says, 1: L2-normalize, -1: do not */
	int no_truncate;     /* 1: an input that is too long is VAC_E_TOO_LARGE */
	uint32_t dimensions; /* 0: all; else the first so many components of each vector */
};

/* Embeds count NUL-terminated UTF-8 texts. vectors: room for count x
 * dimensions floats, row by row, in the order of the texts; left as it was on
 * error. options may be NULL. */
VACATE_API int vacate_embed(struct vacate_model *model, const char *const *texts, size_t count,
			    const struct vacate_embed_options *options, float *vectors,
			    struct vac_error *err);

/* What an unload gave back. uss: private memory of this process (Private_Clean
 * + Private_Dirty of /proc/self/smaps_rollup), in bytes; rss: resident. */
struct vacate_receipt {
	uint64_t planned_bytes;
	uint64_t ledger_bytes; /* what the ledger says went */
	int measured;          /* 0: /proc could not be read, what follows is 0 */
	uint64_t uss_before_bytes;
	uint64_t uss_after_bytes;
	uint64_t rss_before_bytes;
	uint64_t rss_after_bytes;
	int64_t returned_bytes;     /* uss before - after */
	uint64_t unaccounted_bytes; /* ledger_bytes not seen to go, 0 if all was: host */
	/* On a GPU: its part of planned_bytes and ledger_bytes, and what the GPU's
	 * management library (NVML) said of it, all processes together. */
	uint64_t device_planned_bytes;
	uint64_t device_ledger_bytes;
	int device_measured; /* 0: no GPU, or NVML did not answer; what follows is 0 */
	uint64_t device_used_before_bytes;
	uint64_t device_used_after_bytes;
	int device_listed; /* 1: this process is still listed there (other models) */
};

/* Gives the model's memory back, drops what libraries cached for it, and
 * trims the allocators that are present. receipt may be NULL (then nothing is
 * measured, which saves reading /proc). The model is gone in any case. NULL
 * is fine. */
VACATE_API void vacate_unload(struct vacate_model *model, struct vacate_receipt *receipt);

/*
 * Other processes on a GPU. What follows needs no struct vacate, and any thread may
 * call it at any time; a call belongs to the thread that makes it and blocks until it
 * is done. Two calls for one process exclude each other, also from different programs:
 * the second is VAC_E_BUSY.
 *
 * Parking takes everything of a live process off its GPUs, the context included, and
 * keeps it in that process's own host memory; its CUDA calls block until it is
 * resumed, and it goes on with the same bits. The driver does it (570 and later).
 * Resuming a process for which the GPU has no room would lose it: that is looked at
 * first, but a program that does not ask for Vacate's lock may take the room just then.
 * docs/hold.md has what is checked and what can go wrong.
 *
 * The calls load the driver (cuInit) and NVML into the caller's process, where both stay;
 * none makes a context, so that this process takes no memory of a GPU. No thread of theirs
 * outlives a call.
 */
enum vacate_process_state {
	VACATE_PROCESS_UNKNOWN = 0, /* the driver does not say: another user's, or no CUDA */
	VACATE_PROCESS_RUNNING = 1,
	VACATE_PROCESS_LOCKED = 2, /* its CUDA calls block; what it has on the GPU is there */
	VACATE_PROCESS_PARKED = 3, /* nothing of it is on a GPU */
	VACATE_PROCESS_FAILED = 4, /* it could not be restored: it will not use the GPU again */
};

/* Zero-initialise, then set what is wanted. */
struct vacate_park_options {
	int tree; /* 1: the process and all that descend from it and use CUDA; parking: all or none */
	/* 1: go on although the driver is none that this was tried with, or it is not known
	 * what the process has on a GPU */
	int risk;
	int pageout;              /* parking, 1: hand the copy in host memory to swap afterwards */
	uint32_t lock_timeout_ms; /* parking: for its CUDA calls to end; 0: 10,000 */
	uint32_t wait_ms;         /* resuming: for room on the GPU; 0: refuse at once */
	const char *device_uuid;  /* resuming: to another GPU of the same kind; NULL: not */
	int (*cancelled)(void *ctx); /* not 0: put everything back and return; NULL: never */
	void *ctx;
};

/* What a call came to, over all processes that it was about. */
struct vacate_park_receipt {
	uint32_t processes;
	enum vacate_process_state before, after; /* of the first of them */
	int device_measured;                     /* 0: NVML did not tell; the next two are 0 */
	uint64_t device_before_bytes;            /* of VRAM, on all GPUs */
	uint64_t device_after_bytes;
	int measured; /* 0: /proc could not be read; the next two are 0 */
	uint64_t rss_before_bytes;
	uint64_t rss_after_bytes;
	uint64_t pageout_bytes; /* by which RSS fell when its memory was paged out */
	int64_t driver_ns;      /* in calls of the driver, its start included */
	int64_t total_ns;
	/* Added last: what was built before it is to be built anew. By how much more of it was in
	 * swap then, as /proc/PID/smaps_rollup has it. */
	uint64_t swapped_bytes;
};

/* options, receipt and err may be NULL; the receipt is filled on error, too. A process
 * that is parked already is done. On error all are as they were, unless the message
 * says otherwise. The codes:
 *   VAC_E_NOT_FOUND    there is no such process, or no driver
 *   VAC_E_UNSUPPORTED  no CUDA process; MIG or MPS; too old a driver; without risk, what
 *                      is unknown or untried
 *   VAC_E_IO           another user's process
 *   VAC_E_NO_ROOM      host memory has no room for what it has on the GPU
 *   VAC_E_BUSY         another vacate is at it, or it is stopped
 *   VAC_E_TIMEOUT      its CUDA calls did not end in time: it runs on
 *   VAC_E_GONE         it was lost before, or ended meanwhile
 *   VAC_E_TOO_LARGE    it has more than 63 descendants
 *   VAC_E_INVALID      it is the calling process; device_uuid is too long
 *   VAC_E_CANCELLED    the caller wanted it */
VACATE_API int vacate_park(int64_t pid, const struct vacate_park_options *options,
			   struct vacate_park_receipt *receipt, struct vac_error *err);
/* Resumes what is parked or locked; what runs is done. VAC_E_NO_ROOM names who holds the
 * GPU, and the process stays parked; VAC_E_GONE: it is lost. */
VACATE_API int vacate_resume(int64_t pid, const struct vacate_park_options *options,
			     struct vacate_park_receipt *receipt, struct vac_error *err);
VACATE_API int vacate_process_state(int64_t pid, enum vacate_process_state *out,
				    struct vac_error *err);

#define VACATE_MOST_DEVICES 16

/* What a process holds. Costs some milliseconds a GiB of its host memory. */
struct vacate_process_usage {
	int measured; /* 0: not ours to measure, and the next three are 0 */
	uint64_t rss_bytes;
	uint64_t uss_bytes; /* private: what comes back when it ends */
	uint64_t pss_bytes;
	int device_measured;   /* 0: no GPU, or NVML did not answer */
	uint32_t device_count; /* GPUs on which it is listed */
	struct {
		char uuid[48];
		int known; /* 0: listed, and NVML does not tell how much; bytes is 0 */
		uint64_t bytes;
		uint64_t used_bytes; /* of the GPU, by all processes */
		uint64_t total_bytes;
	} devices[VACATE_MOST_DEVICES];
};
/* Needs no driver and no permission but for the host's part. */
VACATE_API int vacate_process_usage(int64_t pid, struct vacate_process_usage *out,
				    struct vac_error *err);

#ifdef __cplusplus
}
#endif
#endif /* VACATE_H */
