/*
 * device.c - the device comes up and goes down: context, stream, kernels and
 * cuBLASLt. See backend.h for the threads.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/cuda/backend.h"
#include "engine/cuda/kernels.h"

#define MOMENT_NS 10000000

static int check(const struct vac_compute *c, int result, const char *what, struct vac_error *err)
{
	return result == VAC_CU_OK ? 0 : vac_cuda_fail(c->cuda, err, result, what);
}

void vac_cuda_note(struct vac_compute *c, int result, const char *what)
{
	if (result != VAC_CU_OK && c->failure == 0)
		c->failure = vac_cuda_fail(c->cuda, &c->error, result, what);
}

static int find_device(struct vac_compute *c, struct vac_error *err)
{
	const struct vac_cuda *cuda = c->cuda;
	int count = 0, major = 0, minor = 0, vmm = 0;
	int rc = check(c, cuda->init(0), "starting CUDA", err);
	if (rc == 0)
		rc = check(c, cuda->device_count(&count), "counting GPUs", err);
	if (rc == 0 && (uint64_t)c->ordinal >= (uint64_t)count)
		rc = vac_fail(
			err, VAC_E_NOT_FOUND, "there is no cuda:%u: the driver shows %d GPU%s%s",
			c->ordinal, count, count == 1 ? "" : "s",
			getenv("CUDA_VISIBLE_DEVICES") ? " (CUDA_VISIBLE_DEVICES is set)" : "");
	if (rc == 0)
		rc = check(c, cuda->device_get(&c->device, (int)c->ordinal), "opening the GPU",
			   err);
	if (rc == 0)
		rc = check(
			c,
			cuda->device_name(c->device_name, (int)sizeof(c->device_name), c->device),
			"asking the GPU's name", err);
	if (rc == 0)
		rc = check(c, cuda->device_attribute(&major, VAC_CU_ATTRIBUTE_MAJOR, c->device),
			   "asking what the GPU can do", err);
	if (rc == 0)
		rc = check(c, cuda->device_attribute(&minor, VAC_CU_ATTRIBUTE_MINOR, c->device),
			   "asking what the GPU can do", err);
	if (rc == 0)
		rc = check(c, cuda->device_attribute(&vmm, VAC_CU_ATTRIBUTE_VMM, c->device),
			   "asking what the GPU can do", err);
	c->architecture = major * 10 + minor;
	if (rc == 0 && c->architecture < VAC_CUDA_OLDEST_ARCHITECTURE)
		rc = vac_fail(err, VAC_E_UNSUPPORTED,
			      "cuda:%u is %s with compute capability %d.%d; 8.0 (Ampere) or later "
			      "is needed",
			      c->ordinal, c->device_name, major, minor);
	if (rc == 0 && !vmm)
		rc = vac_fail(err, VAC_E_UNSUPPORTED,
			      "cuda:%u (%s) has no virtual memory management, which regions need",
			      c->ordinal, c->device_name);
	return rc;
}

/* A plan is made without a device: its granule must be the device's. */
static int check_granule(struct vac_compute *c, struct vac_error *err)
{
	const struct vac_cu_allocation properties = {
		.type = VAC_CU_ALLOCATION_PINNED,
		.location = {.type = VAC_CU_LOCATION_DEVICE, .id = c->device},
	};
	size_t bytes = 0;
	int rc = check(c, c->cuda->mem_granularity(&bytes, &properties, VAC_CU_GRANULARITY_MINIMUM),
		       "asking the GPU's granule", err);
	if (rc == 0 && (bytes == 0 || VAC_CUDA_GRANULE_BYTES % bytes))
		rc = vac_fail(err, VAC_E_UNSUPPORTED,
			      "cuda:%u gives memory in granules of %zu bytes, expected %u",
			      c->ordinal, bytes, (unsigned)VAC_CUDA_GRANULE_BYTES);
	return rc;
}

static int find_functions(struct vac_compute *c, struct vac_cuda_module *m, enum vac_dtype dtype,
			  struct vac_error *err)
{
	static const struct {
		const char *name;
		size_t offset;
		bool only_16, only_90a;
	} all[] = {
#define ENTRY(name)     {#name, offsetof(struct vac_cuda_functions, name), false, false},
#define ENTRY_16(name)  {#name, offsetof(struct vac_cuda_functions, name), true, false},
#define ENTRY_90A(name) {#name, offsetof(struct vac_cuda_functions, name), true, true},
		VAC_CUDA_KERNELS(ENTRY) VAC_CUDA_KERNELS_16(ENTRY_16)
			VAC_CUDA_KERNELS_90A(ENTRY_90A)
#undef ENTRY
#undef ENTRY_16
#undef ENTRY_90A
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct CUfunc_st *function = NULL;
		if ((all[i].only_16 && dtype == VAC_DTYPE_F32) ||
		    (all[i].only_90a && c->architecture != 90))
			continue;
		int result = c->cuda->module_function(&function, m->module, all[i].name);
		if (all[i].only_90a && result == VAC_CU_NOT_FOUND)
			continue; /* an old compiler's code for sm_90 */
		int rc = check(c, result, all[i].name, err);
		if (rc < 0)
			return rc;
		memcpy((char *)&m->functions + all[i].offset, &function, sizeof(function));
	}
	return 0;
}

/* Compiles what no cubin of ours is for. In the context. */
static int compile_kernels(struct vac_compute *c, int element, struct CUmod_st **module,
			   struct vac_error *err)
{
	void *image;
	size_t bytes;
	int rc = vac_cuda_kernels(c->driver, c->architecture, element, &image, &bytes, err);
	if (rc < 0)
		return rc;
	rc = check(c, c->cuda->module_load(module, image), "loading the kernels", err);
	free(image);
	return rc;
}

int vac_cuda_element(enum vac_dtype dtype)
{
	return dtype == VAC_DTYPE_F32 ? 32 : dtype == VAC_DTYPE_F16 ? 16 : 17;
}

/* In the context. */
static int load_kernels(struct vac_compute *c, enum vac_dtype dtype, struct vac_error *err)
{
	struct vac_cuda_module *m = &c->modules[dtype];
	int rc = 0;
	if (m->module)
		return 0;
	/* A driver refuses what a newer toolkit has made. */
	const void *ahead = vac_cuda_cubin(c->architecture, vac_cuda_element(dtype));
	int result = ahead ? c->cuda->module_load(&m->module, ahead) : VAC_CU_OK;
	if (result == VAC_CU_OUT_OF_MEMORY)
		return check(c, result, "loading the kernels", err);
	if (!ahead || result != VAC_CU_OK) {
		m->module = NULL;
		rc = compile_kernels(c, vac_cuda_element(dtype), &m->module, err);
	}
	if (rc == 0)
		rc = find_functions(c, m, dtype, err);
	if (rc < 0 && m->module) {
		c->cuda->module_unload(m->module);
		*m = (struct vac_cuda_module){0};
	}
	return rc;
}

/* Current afterwards. */
static int make_context(struct vac_compute *c, struct vac_error *err)
{
	int rc;
	vac_cuda_claim_open(c);
	do
		rc = atomic_load(&c->device_task.stop)
			     ? vac_fail(err, VAC_E_CANCELLED, "the load was given up")
			     : vac_cuda_claim(c, err);
	while (rc > 0);
	if (rc < 0)
		return rc;
	rc = check(c, c->cuda->ctx_create(&c->ctx, VAC_CU_CTX_SCHED_SPIN, c->device),
		   "creating a context", err);
	vac_cuda_yield(c);
	return rc;
}

static void *bring_up_device(void *arg)
{
	struct vac_compute *c = arg;
	struct vac_cuda_task *task = &c->device_task;
	struct CUctx_st *popped;
	int rc = find_device(c, &task->error);
	if (rc == 0)
		rc = check_granule(c, &task->error);
	if (rc == 0)
		rc = make_context(c, &task->error);
	if (rc == 0) {
		rc = check(c, c->cuda->stream_create(&c->stream, VAC_CU_STREAM_NON_BLOCKING),
			   "creating a stream", &task->error);
		if (rc == 0)
			rc = load_kernels(c, c->first_dtype, &task->error);
		c->cuda->ctx_pop(&popped);
	}
	task->rc = rc;
	return NULL;
}

static void *bring_up_blas(void *arg)
{
	struct vac_compute *c = arg;
	c->blas_task.rc = vac_blas_load(c->driver / 1000, &c->blas, &c->blas_task.error);
	return NULL;
}

static void begin(struct vac_compute *c, struct vac_cuda_task *task, void *(*fn)(void *))
{
	task->rc = 0;
	task->error = (struct vac_error){0};
	atomic_store(&task->stop, false);
	task->running = pthread_create(&task->thread, NULL, fn, c) == 0;
	if (!task->running) /* then here and now */
		fn(c);
}

static void end(struct vac_cuda_task *task)
{
	atomic_store(&task->stop, true);
	if (task->running)
		pthread_join(task->thread, NULL);
	task->running = false;
}

/* Waits a moment at most: it may take long, and others want answers meanwhile. */
static bool has_ended(struct vac_cuda_task *task)
{
	struct timespec until;
	if (!task->running)
		return true;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += MOMENT_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	task->running = pthread_timedjoin_np(task->thread, NULL, &until) != 0;
	return !task->running;
}

int vac_cuda_start(struct vac_compute *c, struct vac_error *err)
{
	int rc = check(c, c->cuda->driver_version(&c->driver), "asking the driver's version", err);
	if (rc == 0 && c->driver < VAC_CUDA_OLDEST)
		rc = vac_cuda_too_old(err, c->driver);
	if (rc < 0)
		return rc;
	c->started = true;
	c->first_dtype = c->dtype;
	begin(c, &c->blas_task, bring_up_blas);
	begin(c, &c->device_task, bring_up_device);
	return 0;
}

static int open_blas(struct vac_compute *c, struct vac_error *err)
{
	vac_cuda_enter(c);
	int status = c->blas->create(&c->handle);
	vac_cuda_leave(c);
	if (status == 0)
		return 0;
	c->handle = NULL;
	int rc = vac_fail(err, VAC_E_INTERNAL, "cuBLASLt does not start on cuda:%u", c->ordinal);
	vac_error_detail(err, "cublasLtCreate: status %d", status);
	return rc;
}

static int bring_up(struct vac_compute *c, struct vac_error *err)
{
	struct vac_cuda_task *tasks[] = {&c->device_task, &c->blas_task};
	for (size_t i = 0; i < 2; i++)
		if (!has_ended(tasks[i]))
			return 1;
	vac_cuda_claim_warn(c);
	for (size_t i = 0; i < 2; i++) {
		if (tasks[i]->rc < 0) {
			if (err)
				*err = tasks[i]->error;
			return tasks[i]->rc;
		}
	}
	int rc = open_blas(c, err);
	if (rc < 0)
		return rc;
	snprintf(c->description, sizeof(c->description), "%s, sm_%d", c->device_name,
		 c->architecture);
	c->up = true;
	return 0;
}

int vac_cuda_ready(struct vac_compute *c, struct vac_error *err)
{
	int rc = c->up ? 0 : bring_up(c, err);
	if (rc != 0)
		return rc;
	vac_cuda_enter(c);
	rc = load_kernels(c, c->dtype, err);
	vac_cuda_leave(c);
	return rc;
}

void vac_cuda_use(struct vac_compute *c, enum vac_dtype dtype)
{
	c->dtype = dtype;
	c->module = &c->modules[dtype];
}

/* In reverse; what was never made is skipped. Nobody could do anything about a
 * refusal here, and destroying the context takes everything along. */
void vac_cuda_stop(struct vac_compute *c)
{
	const struct vac_cuda *cuda = c->cuda;
	if (!c->started)
		return;
	end(&c->device_task);
	end(&c->blas_task);
	if (c->ctx) {
		vac_cuda_enter(c);
		vac_cuda_forget(c, NULL);
		if (c->handle)
			c->blas->destroy(c->handle);
		for (size_t i = 0; i < VAC_MOST_DTYPES; i++)
			if (c->modules[i].module)
				cuda->module_unload(c->modules[i].module);
		vac_cuda_marks_close(c);
		if (c->stream)
			cuda->stream_destroy(c->stream);
		vac_cuda_leave(c);
		cuda->ctx_destroy(c->ctx);
	}
	vac_cuda_claim_close(c);
	c->ctx = NULL;
	c->handle = NULL;
	c->stream = NULL;
	c->workspace = NULL;
	c->failure = 0;
	c->started = c->up = c->graphs.off = false;
	memset(c->modules, 0, sizeof(c->modules));
}

void vac_cuda_enter(struct vac_compute *c)
{
	if (c->ctx)
		vac_cuda_note(c, c->cuda->ctx_push(c->ctx), "entering the context");
}

void vac_cuda_leave(struct vac_compute *c)
{
	struct CUctx_st *popped;
	if (c->ctx)
		vac_cuda_note(c, c->cuda->ctx_pop(&popped), "leaving the context");
}
