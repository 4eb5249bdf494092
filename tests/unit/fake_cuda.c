/* fake_cuda.c - see fake_cuda.h. */
#include "fake_cuda.h"
#include "fake_launches.h"
#include "fake_stream.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_tables.h"

struct fake_cuda fake_cuda;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void fake_cuda_reset(void)
{
	fake_stream_reset();
	fake_cuda = (struct fake_cuda){
		.driver = 13000,
		.devices = 1,
		.major = 9,
		.vmm = 1,
		.room_bytes = (uint64_t)1 << 30,
		.fail_at = -1,
		.blas_fail_at = -1,
		.blas_sleep_us = 500,
	};
}

int fake_cuda_live(void)
{
	const struct fake_cuda *f = &fake_cuda;
	return f->contexts + f->streams + f->events + f->modules + f->reserved + f->memories +
	       f->mapped + f->registered + f->handles + f->blas_objects + f->graphs + f->execs;
}

/* Counts a call; its result. */
static int call(const char *name)
{
	int result = VAC_CU_OK;
	pthread_mutex_lock(&lock);
	long number = fake_cuda.calls++;
	if (fake_cuda.fail_at >= 0 &&
	    (number == fake_cuda.fail_at || (fake_cuda.fail_lasts && number > fake_cuda.fail_at))) {
		if (!fake_cuda.failed)
			fake_cuda.failed = name;
		result = fake_cuda.fail_with;
	}
	pthread_mutex_unlock(&lock);
	return result;
}
#define CALL(name)                                                                                 \
	do {                                                                                       \
		int result_ = call(name);                                                          \
		if (result_ != VAC_CU_OK)                                                          \
			return result_;                                                            \
	} while (0)

/* An event; all that make gives have this size. */
struct event {
	long number; /* of the last copy before it */
	long queries;
};

/* One object of a kind, and back. */
static void *make(int *count)
{
	void *object = malloc(sizeof(struct event));
	assert_non_null(object);
	pthread_mutex_lock(&lock);
	++*count;
	pthread_mutex_unlock(&lock);
	return object;
}

static int drop(int *count, void *object)
{
	free(object);
	pthread_mutex_lock(&lock);
	--*count;
	assert_true(*count >= 0);
	pthread_mutex_unlock(&lock);
	return VAC_CU_OK;
}

static int fake_init(unsigned flags)
{
	(void)flags;
	CALL("init");
	return fake_cuda.devices ? VAC_CU_OK : VAC_CU_NO_DEVICE;
}

static int fake_driver_version(int *version)
{
	*version = fake_cuda.driver;
	return VAC_CU_OK;
}

static int fake_device_count(int *count)
{
	*count = fake_cuda.devices;
	CALL("device_count");
	return VAC_CU_OK;
}

static int fake_device_get(int *device, int ordinal)
{
	*device = ordinal;
	CALL("device_get");
	return ordinal < fake_cuda.devices ? VAC_CU_OK : VAC_CU_INVALID_DEVICE;
}

static int fake_device_uuid(struct vac_cu_uuid *uuid, int device)
{
	if (fake_cuda.no_uuid)
		return VAC_CU_NOT_SUPPORTED;
	for (int i = 0; i < 16; i++)
		uuid->bytes[i] = (char)(16 * i + device);
	return VAC_CU_OK;
}

static int fake_device_name(char *name, int bytes, int device)
{
	(void)device;
	CALL("device_name");
	snprintf(name, (size_t)bytes, "%s", fake_cuda.name ? fake_cuda.name : "Fake GPU");
	return VAC_CU_OK;
}

static int fake_device_attribute(int *value, int attribute, int device)
{
	(void)device;
	CALL("device_attribute");
	*value = attribute == VAC_CU_ATTRIBUTE_MAJOR   ? fake_cuda.major
		 : attribute == VAC_CU_ATTRIBUTE_MINOR ? fake_cuda.minor
						       : fake_cuda.vmm;
	return VAC_CU_OK;
}

static __thread struct CUctx_st *stack[8];
static __thread int depth;

static int fake_ctx_push(struct CUctx_st *ctx)
{
	CALL("ctx_push");
	assert_true(depth < 8);
	stack[depth++] = ctx;
	return VAC_CU_OK;
}

static int fake_ctx_pop(struct CUctx_st **ctx)
{
	if (depth == 0) /* its push failed */
		return 201;
	*ctx = stack[--depth];
	return VAC_CU_OK;
}

static int fake_ctx_create(struct CUctx_st **ctx, unsigned flags, int device)
{
	(void)flags, (void)device;
	if (fake_cuda.taking)
		fake_cuda.taking();
	CALL("ctx_create");
	*ctx = make(&fake_cuda.contexts);
	stack[depth++] = *ctx;
	return VAC_CU_OK;
}

static int fake_ctx_destroy(struct CUctx_st *ctx)
{
	return drop(&fake_cuda.contexts, ctx);
}

/* A call that needs a context. */
static void in_context(void)
{
	if (depth == 0 && !fake_cuda.failed)
		fail_msg("a call of the driver without a context");
}

static int fake_granularity(size_t *bytes, const struct vac_cu_allocation *p, int option)
{
	assert_int_equal(p->type, VAC_CU_ALLOCATION_PINNED);
	assert_int_equal(p->location.type, VAC_CU_LOCATION_DEVICE);
	assert_int_equal(option, VAC_CU_GRANULARITY_MINIMUM);
	CALL("mem_granularity");
	*bytes = (size_t)2 << 20;
	return VAC_CU_OK;
}

static int fake_reserve(vac_cu_address *at, size_t bytes, size_t align, vac_cu_address hint,
			unsigned long long flags)
{
	(void)align, (void)hint, (void)flags;
	CALL("mem_reserve");
	in_context();
	assert_int_equal(bytes % ((size_t)2 << 20), 0);
	void *base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(base != MAP_FAILED);
	*at = (uintptr_t)base;
	fake_cuda.reserved++;
	return VAC_CU_OK;
}

static int fake_address_free(vac_cu_address at, size_t bytes)
{
	munmap((void *)(uintptr_t)at, bytes);
	fake_cuda.reserved--;
	return VAC_CU_OK;
}

/* A memory's bytes live as long as its handle or a mapping: here never both. */
static uint64_t created_bytes;

static int fake_create(vac_cu_memory *memory, size_t bytes, const struct vac_cu_allocation *p,
		       unsigned long long flags)
{
	(void)p, (void)flags;
	if (fake_cuda.taking)
		fake_cuda.taking();
	CALL("mem_create");
	if (fake_cuda.used_bytes + bytes > fake_cuda.room_bytes)
		return VAC_CU_OUT_OF_MEMORY;
	fake_cuda.used_bytes += bytes;
	fake_cuda.memories++;
	created_bytes = bytes;
	*memory = bytes;
	return VAC_CU_OK;
}

static int fake_map(vac_cu_address at, size_t bytes, size_t offset, vac_cu_memory memory,
		    unsigned long long flags)
{
	(void)at, (void)flags;
	CALL("mem_map");
	assert_int_equal(offset, 0);
	assert_int_equal(memory, bytes);
	fake_cuda.mapped++;
	created_bytes = 0; /* the mapping holds it now */
	return VAC_CU_OK;
}

static int fake_release(vac_cu_memory memory)
{
	fake_cuda.memories--;
	if (created_bytes)
		fake_cuda.used_bytes -= memory;
	return VAC_CU_OK;
}

static int fake_set_access(vac_cu_address at, size_t bytes, const struct vac_cu_access *access,
			   size_t count)
{
	CALL("mem_set_access");
	assert_int_equal(count, 1);
	assert_int_equal(access->flags, VAC_CU_ACCESS_READWRITE);
	assert_int_equal(mprotect((void *)(uintptr_t)at, bytes, PROT_READ | PROT_WRITE), 0);
	/* not zeros: nothing may rely on them */
	memset((void *)(uintptr_t)at, 0x7f, bytes);
	return VAC_CU_OK;
}

static int fake_unmap(vac_cu_address at, size_t bytes)
{
	/* a batch under way may use it */
	assert_true(fake_stream_idle() || fake_cuda.failed);
	mprotect((void *)(uintptr_t)at, bytes, PROT_NONE);
	fake_cuda.mapped--;
	fake_cuda.used_bytes -= bytes;
	return VAC_CU_OK;
}

static int fake_register(void *at, size_t bytes, unsigned flags)
{
	(void)at, (void)bytes;
	CALL("host_register");
	in_context();
	assert_true(flags == 0 || flags == VAC_CU_HOST_REGISTER_DEVICEMAP);
	fake_cuda.registered++;
	fake_stream_pin(at, bytes);
	return VAC_CU_OK;
}

static int fake_unregister(void *at)
{
	if (fake_cuda.failed && fake_cuda.fail_lasts)
		fake_stream_drop();
	fake_stream_unpin(at);
	fake_cuda.registered--;
	return VAC_CU_OK;
}

static int fake_host_address(vac_cu_address *address, void *at, unsigned flags)
{
	(void)flags;
	CALL("host_address");
	*address = (uintptr_t)at;
	return VAC_CU_OK;
}

static int fake_upload(vac_cu_address to, const void *from, size_t bytes,
		       struct CUstream_st *stream)
{
	(void)stream;
	CALL("upload");
	assert_false(fake_capturing());
	in_context();
	memcpy((void *)(uintptr_t)to, from, bytes);
	if (fake_stream_pinned(from, bytes))
		fake_stream_copy(NULL, from, bytes);
	return VAC_CU_OK;
}

static long downloads;

static int fake_download(void *to, vac_cu_address from, size_t bytes, struct CUstream_st *stream)
{
	(void)stream;
	CALL("download");
	assert_false(fake_capturing());
	in_context();
	assert_true(fake_stream_pinned(to, bytes));
	downloads++;
	fake_stream_copy(to, (const void *)(uintptr_t)from, bytes);
	return VAC_CU_OK;
}

static int fake_stream_create(struct CUstream_st **stream, unsigned flags)
{
	(void)flags;
	CALL("stream_create");
	*stream = make(&fake_cuda.streams);
	return VAC_CU_OK;
}

static int fake_stream_destroy(struct CUstream_st *stream)
{
	return drop(&fake_cuda.streams, stream);
}

static int fake_stream_synchronize(struct CUstream_st *stream)
{
	(void)stream;
	int result = call("stream_synchronize");
	if (result != VAC_CU_OK) {
		fake_stream_drop(); /* as of a lost device: nobody waits again */
		return result;
	}
	assert_false(fake_capturing());
	fake_stream_complete(fake_stream_number());
	return fake_cuda.sticky;
}

static int fake_event_create(struct CUevent_st **event, unsigned flags)
{
	(void)flags;
	CALL("event_create");
	*event = make(&fake_cuda.events);
	memset(*event, 0, sizeof(struct event));
	return VAC_CU_OK;
}

static int fake_event_destroy(struct CUevent_st *event)
{
	return drop(&fake_cuda.events, event);
}

static int fake_event_record(struct CUevent_st *event, struct CUstream_st *stream)
{
	struct event *e = (struct event *)event;
	(void)stream;
	CALL("event_record");
	assert_false(fake_capturing());
	e->number = fake_stream_number();
	e->queries = 0;
	fake_cuda.marks++;
	return VAC_CU_OK;
}

static int fake_event_synchronize(struct CUevent_st *event)
{
	const struct event *e = (const struct event *)event;
	CALL("event_synchronize");
	while (fake_cuda.hangs && downloads)
		usleep(1000);
	assert_false(fake_capturing());
	fake_stream_complete(e->number);
	return fake_cuda.sticky;
}

static int fake_event_query(struct CUevent_st *event)
{
	struct event *e = (struct event *)event;
	CALL("event_query");
	assert_false(fake_capturing());
	in_context();
	if (e->queries++ < fake_cuda.slow || (fake_cuda.hangs && downloads))
		return VAC_CU_NOT_READY;
	fake_stream_complete(e->number);
	return fake_cuda.sticky;
}

static int fake_module_load(struct CUmod_st **module, const void *image)
{
	assert_memory_equal(image, "kernels", 7);
	CALL("module_load");
	fake_cuda.loaded = image;
	if (image == fake_cuda.refused_image)
		return VAC_CU_NO_BINARY_FOR_GPU;
	*module = make(&fake_cuda.modules);
	return VAC_CU_OK;
}

static int fake_module_unload(struct CUmod_st *module)
{
	return drop(&fake_cuda.modules, module);
}

/* A function is its name. */
static int fake_module_function(struct CUfunc_st **function, struct CUmod_st *module,
				const char *name)
{
	(void)module;
	CALL("module_function");
	*function = (struct CUfunc_st *)(uintptr_t)name;
	return VAC_CU_OK;
}

static int fake_func_set_attribute(struct CUfunc_st *function, int attribute, int value)
{
	(void)function, (void)attribute, (void)value;
	CALL("func_set_attribute");
	return VAC_CU_OK;
}

static int fake_launch(struct CUfunc_st *function, unsigned grid_x, unsigned grid_y,
		       unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
		       unsigned shared_bytes, struct CUstream_st *stream, void **parameters,
		       void **extra)
{
	(void)block_z, (void)shared_bytes, (void)stream, (void)extra;
	if (call("launch") != VAC_CU_OK) {
		fake_spoil();
		return fake_cuda.fail_with;
	}
	in_context();
	assert_true(grid_x > 0 && block_x * block_y <= 1024);
	fake_cuda.launches++;
	fake_kernel((const char *)(uintptr_t)function, grid_x, grid_y, grid_z, parameters);
	return VAC_CU_OK;
}

/* What a graph takes of the device's memory, it takes when it is made. */
static int fake_mem_info(size_t *free_bytes, size_t *total_bytes)
{
	CALL("mem_info");
	in_context();
	*free_bytes = fake_cuda.room_bytes - fake_cuda.used_bytes;
	*total_bytes = fake_cuda.room_bytes;
	return VAC_CU_OK;
}

static int fake_capture_begin(struct CUstream_st *stream, int mode)
{
	(void)stream;
	CALL("capture_begin");
	in_context();
	assert_int_equal(mode, VAC_CU_CAPTURE_THREAD_LOCAL);
	fake_record();
	return VAC_CU_OK;
}

static int fake_capture_end(struct CUstream_st *stream, struct CUgraph_st **graph)
{
	(void)stream;
	bool whole = call("capture_end") == VAC_CU_OK;
	*graph = fake_recorded(whole);
	return !whole ? fake_cuda.fail_with : *graph ? VAC_CU_OK : 901;
}

static int fake_graph_instantiate(struct CUgraphExec_st **exec, struct CUgraph_st *graph,
				  unsigned long long flags)
{
	CALL("graph_instantiate");
	in_context();
	assert_int_equal(flags, 0);
	*exec = fake_graph_made(graph);
	return VAC_CU_OK;
}

static int fake_graph_launch(struct CUgraphExec_st *exec, struct CUstream_st *stream)
{
	(void)stream;
	CALL("graph_launch");
	in_context();
	fake_graph_play(exec);
	return VAC_CU_OK;
}

static int fake_exec_destroy(struct CUgraphExec_st *exec)
{
	in_context();
	assert_true(fake_stream_idle() || fake_cuda.failed);
	fake_graph_drop((struct CUgraph_st *)exec, true);
	return VAC_CU_OK;
}

static int fake_graph_destroy(struct CUgraph_st *graph)
{
	in_context();
	fake_graph_drop(graph, false);
	return VAC_CU_OK;
}

static int fake_error_name(int result, const char **name)
{
	*name = result == VAC_CU_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_FAKE";
	return VAC_CU_OK;
}

static int fake_error_string(int result, const char **text)
{
	(void)result;
	*text = "a fake error";
	return VAC_CU_OK;
}

/* cuBLASLt: an object is what it was made with. */
struct vac_blas_opaque {
	uint64_t cols;
	uint64_t rows;
	int epilogue;
	const float *bias;
};

static int blas_call(void)
{
	long number = fake_cuda.blas_calls++;
	return fake_cuda.blas_fail_at >= 0 && number == fake_cuda.blas_fail_at ? 14 : 0;
}
#define BLAS_CALL()                                                                                \
	do {                                                                                       \
		if (blas_call() != 0)                                                              \
			return 14;                                                                 \
	} while (0)

static int new_object(vac_blas_object *out)
{
	BLAS_CALL();
	*out = calloc(1, sizeof(**out));
	assert_non_null(*out);
	fake_cuda.blas_objects++;
	return 0;
}

static int free_object(vac_blas_object object)
{
	free(object);
	fake_cuda.blas_objects--;
	return 0;
}

static int blas_property(int property, int *value)
{
	*value = property;
	return 0;
}

static int blas_create(struct cublasLtContext **handle)
{
	BLAS_CALL();
	in_context();
	*handle = make(&fake_cuda.handles);
	return 0;
}

static int blas_destroy(struct cublasLtContext *handle)
{
	in_context();
	return drop(&fake_cuda.handles, handle);
}

static int desc_create(vac_blas_object *desc, int compute, int scale)
{
	assert_int_equal(compute, VAC_BLAS_COMPUTE_32F);
	assert_int_equal(scale, VAC_BLAS_R_32F);
	return new_object(desc);
}

static int desc_set(vac_blas_object desc, int attribute, const void *value, size_t bytes)
{
	BLAS_CALL();
	if (attribute == VAC_BLAS_DESC_EPILOGUE)
		memcpy(&desc->epilogue, value, bytes);
	else if (attribute == VAC_BLAS_DESC_BIAS_POINTER)
		memcpy(&desc->bias, value, bytes);
	else
		assert_int_equal(attribute, VAC_BLAS_DESC_TRANSA);
	return 0;
}

static int layout_create(vac_blas_object *layout, int type, uint64_t rows, uint64_t cols,
			 int64_t ld)
{
	assert_int_equal(type, VAC_BLAS_R_32F);
	assert_int_equal(rows, ld);
	int rc = new_object(layout);
	if (rc == 0) {
		(*layout)->rows = rows;
		(*layout)->cols = cols;
	}
	return rc;
}

static int layout_set(vac_blas_object layout, int attribute, const void *value, size_t bytes)
{
	BLAS_CALL();
	assert_int_equal(attribute, VAC_BLAS_LAYOUT_COLS);
	memcpy(&layout->cols, value, bytes);
	return 0;
}

static int preference_set(vac_blas_object preference, int attribute, const void *value,
			  size_t bytes)
{
	(void)preference, (void)attribute, (void)value, (void)bytes;
	BLAS_CALL();
	return 0;
}

static int heuristic(struct cublasLtContext *handle, vac_blas_object desc, vac_blas_object a,
		     vac_blas_object b, vac_blas_object c, vac_blas_object d,
		     vac_blas_object preference, int wanted, struct vac_blas_choice *out,
		     int *count)
{
	(void)handle, (void)desc, (void)a, (void)b, (void)c, (void)d, (void)preference;
	BLAS_CALL();
	*count = wanted < 1 + fake_cuda.blas_slow ? wanted : 1 + fake_cuda.blas_slow;
	memset(out, 0, sizeof(*out) * (size_t)*count);
	for (int i = 0; i < *count; i++)
		out[i].algorithm.data[0] = (uint64_t)i;
	return 0;
}

static int matmul(struct cublasLtContext *handle, vac_blas_object desc, const void *alpha,
		  const void *a, vac_blas_object a_layout, const void *b, vac_blas_object b_layout,
		  const void *beta, const void *c, vac_blas_object c_layout, void *d,
		  vac_blas_object d_layout, const struct vac_blas_algorithm *algorithm,
		  void *workspace, size_t workspace_bytes, struct CUstream_st *stream)
{
	const struct fake_product product = {
		.w = a,
		.x = b,
		.y = d,
		.bias = desc->epilogue & VAC_BLAS_EPILOGUE_BIAS ? desc->bias : NULL,
		.in = a_layout->rows,
		.out = a_layout->cols,
		.rows = d_layout->cols,
		.adds = *(const float *)beta != 0,
		.relu = desc->epilogue & VAC_BLAS_EPILOGUE_RELU,
	};
	(void)handle, (void)stream, (void)c_layout;
	if (blas_call() != 0)
		return 14;
	in_context();
	assert_true(c == d && *(const float *)alpha == 1);
	assert_int_equal(b_layout->rows, product.in);
	assert_int_equal(d_layout->rows, product.out);
	assert_int_equal(b_layout->cols, d_layout->cols);
	assert_true(workspace && workspace_bytes > 0);
	fake_cuda.blas_last = (int)algorithm->data[0];
	fake_cuda.blas_used[fake_cuda.blas_last % 4]++;
	if (fake_cuda.blas_refuses && product.rows == fake_cuda.blas_refuses &&
	    fake_cuda.blas_last != 0)
		return 15;
	if (fake_cuda.blas_last < fake_cuda.blas_slow)
		usleep(fake_cuda.blas_sleep_us);
	if (!fake_cuda.blas_idle)
		fake_multiply(&product);
	return 0;
}

/* NVRTC: the kernels are a word. */
static int nvrtc_create(struct _nvrtcProgram **program, const char *source, const char *name,
			int count, const char *const *headers, const char *const *names)
{
	(void)source, (void)name, (void)count, (void)headers, (void)names;
	fake_cuda.compiled++;
	*program = NULL;
	return 0;
}

static int nvrtc_destroy(struct _nvrtcProgram **program)
{
	(void)program;
	return 0;
}

static int nvrtc_compile(struct _nvrtcProgram *program, int count, const char *const *options)
{
	(void)program, (void)count, (void)options;
	return 0;
}

static int nvrtc_bytes(struct _nvrtcProgram *program, size_t *bytes)
{
	(void)program;
	*bytes = 8;
	return 0;
}

static int nvrtc_cubin(struct _nvrtcProgram *program, char *to)
{
	(void)program;
	memcpy(to, "kernels", 8);
	return 0;
}

const struct vac_cuda fake_cuda_table = {
	.init = fake_init,
	.driver_version = fake_driver_version,
	.device_count = fake_device_count,
	.device_get = fake_device_get,
	.device_uuid = fake_device_uuid,
	.device_name = fake_device_name,
	.device_attribute = fake_device_attribute,
	.ctx_create = fake_ctx_create,
	.ctx_destroy = fake_ctx_destroy,
	.ctx_push = fake_ctx_push,
	.ctx_pop = fake_ctx_pop,
	.mem_granularity = fake_granularity,
	.mem_reserve = fake_reserve,
	.mem_address_free = fake_address_free,
	.mem_create = fake_create,
	.mem_release = fake_release,
	.mem_map = fake_map,
	.mem_unmap = fake_unmap,
	.mem_set_access = fake_set_access,
	.host_register = fake_register,
	.host_unregister = fake_unregister,
	.host_address = fake_host_address,
	.upload = fake_upload,
	.download = fake_download,
	.stream_create = fake_stream_create,
	.stream_destroy = fake_stream_destroy,
	.stream_synchronize = fake_stream_synchronize,
	.event_create = fake_event_create,
	.event_destroy = fake_event_destroy,
	.event_record = fake_event_record,
	.event_synchronize = fake_event_synchronize,
	.event_query = fake_event_query,
	.module_load = fake_module_load,
	.module_unload = fake_module_unload,
	.module_function = fake_module_function,
	.func_set_attribute = fake_func_set_attribute,
	.launch = fake_launch,
	.mem_info = fake_mem_info,
	.capture_begin = fake_capture_begin,
	.capture_end = fake_capture_end,
	.graph_instantiate = fake_graph_instantiate,
	.graph_launch = fake_graph_launch,
	.graph_exec_destroy = fake_exec_destroy,
	.graph_destroy = fake_graph_destroy,
	.error_name = fake_error_name,
	.error_string = fake_error_string,
};

const struct vac_blas fake_blas_table = {
	.property = blas_property,
	.create = blas_create,
	.destroy = blas_destroy,
	.desc_create = desc_create,
	.desc_destroy = free_object,
	.desc_set = desc_set,
	.layout_create = layout_create,
	.layout_destroy = free_object,
	.layout_set = layout_set,
	.preference_create = new_object,
	.preference_destroy = free_object,
	.preference_set = preference_set,
	.heuristic = heuristic,
	.matmul = matmul,
};

const struct vac_nvrtc fake_nvrtc_table = {
	.create = nvrtc_create,
	.destroy = nvrtc_destroy,
	.compile = nvrtc_compile,
	.cubin_bytes = nvrtc_bytes,
	.cubin = nvrtc_cubin,
};
