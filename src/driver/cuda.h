/*
 * cuda.h - NVIDIA's driver (libcuda.so.1) as one table of functions, found at
 * run time. The few declarations in use are ours: a build needs no CUDA
 * headers, and where they are installed tests/unit/test_cuda_headers.c compares
 * every type and value with them. Opaque types bear the driver's own tags.
 *
 * A function returns 0 or one of the codes below. vac_cuda_load may be called
 * from any thread; the table never changes afterwards.
 */
#ifndef VAC_DRIVER_CUDA_H
#define VAC_DRIVER_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct CUctx_st;
struct CUstream_st;
struct CUevent_st;
struct CUmod_st;
struct CUfunc_st;
struct CUgraph_st;
struct CUgraphExec_st;
struct vac_cu_uuid {
	char bytes[16];
};

/* Results that are told apart; see vac_cuda_fail for the rest. */
enum {
	VAC_CU_OK = 0,
	VAC_CU_INVALID_VALUE = 1,
	VAC_CU_OUT_OF_MEMORY = 2,
	VAC_CU_NOT_INITIALIZED = 3,
	VAC_CU_STUB_LIBRARY = 34,
	VAC_CU_DEVICE_UNAVAILABLE = 46,
	VAC_CU_NO_DEVICE = 100,
	VAC_CU_INVALID_DEVICE = 101,
	VAC_CU_NO_BINARY_FOR_GPU = 209,
	VAC_CU_ECC_UNCORRECTABLE = 214,
	VAC_CU_NVLINK_UNCORRECTABLE = 220,
	VAC_CU_CONTAINED = 226,
	VAC_CU_OPERATING_SYSTEM = 304,
	VAC_CU_INVALID_HANDLE = 400,
	VAC_CU_ILLEGAL_STATE = 401,
	VAC_CU_NOT_FOUND = 500,
	VAC_CU_NOT_READY = 600,
	VAC_CU_ILLEGAL_ADDRESS = 700,
	VAC_CU_LAUNCH_FAILED = 719,
	VAC_CU_NOT_PERMITTED = 800,
	VAC_CU_NOT_SUPPORTED = 801,
	VAC_CU_SYSTEM_NOT_READY = 802,
	VAC_CU_DRIVER_MISMATCH = 803,
	VAC_CU_COMPAT_NOT_SUPPORTED = 804,
};

enum {
	VAC_CU_CTX_SCHED_SPIN = 1,
	VAC_CU_CTX_SCHED_BLOCKING = 4,
	VAC_CU_STREAM_NON_BLOCKING = 1,
	VAC_CU_EVENT_DISABLE_TIMING = 2,
	VAC_CU_HOST_REGISTER_DEVICEMAP = 2,
	VAC_CU_ATTRIBUTE_MULTIPROCESSORS = 16,
	VAC_CU_ATTRIBUTE_MAJOR = 75,
	VAC_CU_ATTRIBUTE_MINOR = 76,
	VAC_CU_ATTRIBUTE_VMM = 102,
	VAC_CU_FUNC_MAX_DYNAMIC_SHARED = 8,
	VAC_CU_CAPTURE_THREAD_LOCAL = 1,
	VAC_CU_ALLOCATION_PINNED = 1,
	VAC_CU_LOCATION_DEVICE = 1,
	VAC_CU_ACCESS_READWRITE = 3,
	VAC_CU_GRANULARITY_MINIMUM = 0,
	VAC_CU_TENSOR_F16 = 6,
	VAC_CU_TENSOR_BF16 = 9,
	VAC_CU_TENSOR_SWIZZLE_128 = 3,
	VAC_CU_TENSOR_L2_128 = 2,
	/* CUprocessState */
	VAC_CU_PROCESS_RUNNING = 0,
	VAC_CU_PROCESS_LOCKED = 1,
	VAC_CU_PROCESS_CHECKPOINTED = 2,
	VAC_CU_PROCESS_FAILED = 3,
};

struct vac_cu_location {
	int type;
	int id;
};

struct vac_cu_allocation { /* CUmemAllocationProp */
	int type;
	int handle_types;
	struct vac_cu_location location;
	void *win32;
	struct {
		unsigned char compression, rdma;
		unsigned short usage;
		unsigned char reserved[4];
	} flags;
};

struct vac_cu_access { /* CUmemAccessDesc */
	struct vac_cu_location location;
	int flags;
};

struct vac_cu_tensor_map { /* CUtensorMap; made by the driver, a kernel's parameter by value */
	_Alignas(64) uint64_t opaque[16];
};

struct vac_cu_lock {         /* CUcheckpointLockArgs */
	unsigned timeout_ms; /* 0: no limit; when it passes, the process runs on */
	unsigned reserved0;
	uint64_t reserved1[7];
};

struct vac_cu_gpu_pair { /* CUcheckpointGpuPair */
	struct vac_cu_uuid from, to;
};

/* CUcheckpointRestoreArgs since CUDA 13.0; before that all of it is reserved and must
 * be zero. Where there are pairs, every GPU that was checkpointed is in one. */
struct vac_cu_restore {
	struct vac_cu_gpu_pair *pairs;
	unsigned pair_count;
	char reserved[52 - sizeof(struct vac_cu_gpu_pair *)];
	uint64_t reserved1;
};

typedef unsigned long long vac_cu_address; /* CUdeviceptr */
typedef unsigned long long vac_cu_memory;  /* CUmemGenericAllocationHandle */

/* X(member, symbol, version of CUDA that has it in this form, parameters) */
#define VAC_CUDA_FUNCTIONS(X)                                                                      \
	X(init, "cuInit", 2000, (unsigned flags))                                                  \
	X(driver_version, "cuDriverGetVersion", 2020, (int *version))                              \
	X(device_count, "cuDeviceGetCount", 2000, (int *count))                                    \
	X(device_get, "cuDeviceGet", 2000, (int *device, int ordinal))                             \
	X(device_name, "cuDeviceGetName", 2000, (char *name, int bytes, int device))               \
	X(device_uuid, "cuDeviceGetUuid", 11040, (struct vac_cu_uuid * uuid, int device))          \
	X(device_total, "cuDeviceTotalMem", 3020, (size_t * bytes, int device))                    \
	X(device_attribute, "cuDeviceGetAttribute", 2000, (int *value, int attribute, int device)) \
	X(ctx_create, "cuCtxCreate", 3020, (struct CUctx_st * *ctx, unsigned flags, int device))   \
	X(ctx_destroy, "cuCtxDestroy", 4000, (struct CUctx_st * ctx))                              \
	X(ctx_push, "cuCtxPushCurrent", 4000, (struct CUctx_st * ctx))                             \
	X(ctx_pop, "cuCtxPopCurrent", 4000, (struct CUctx_st * *ctx))                              \
	X(mem_info, "cuMemGetInfo", 3020, (size_t * free_bytes, size_t * total_bytes))             \
	X(mem_reserve, "cuMemAddressReserve", 10020,                                               \
	  (vac_cu_address * at, size_t bytes, size_t align, vac_cu_address hint,                   \
	   unsigned long long flags))                                                              \
	X(mem_address_free, "cuMemAddressFree", 10020, (vac_cu_address at, size_t bytes))          \
	X(mem_create, "cuMemCreate", 10020,                                                        \
	  (vac_cu_memory * memory, size_t bytes, const struct vac_cu_allocation *properties,       \
	   unsigned long long flags))                                                              \
	X(mem_release, "cuMemRelease", 10020, (vac_cu_memory memory))                              \
	X(mem_map, "cuMemMap", 10020,                                                              \
	  (vac_cu_address at, size_t bytes, size_t offset, vac_cu_memory memory,                   \
	   unsigned long long flags))                                                              \
	X(mem_unmap, "cuMemUnmap", 10020, (vac_cu_address at, size_t bytes))                       \
	X(mem_set_access, "cuMemSetAccess", 10020,                                                 \
	  (vac_cu_address at, size_t bytes, const struct vac_cu_access *access, size_t count))     \
	X(mem_granularity, "cuMemGetAllocationGranularity", 10020,                                 \
	  (size_t * bytes, const struct vac_cu_allocation *properties, int option))                \
	X(host_register, "cuMemHostRegister", 6050, (void *at, size_t bytes, unsigned flags))      \
	X(host_unregister, "cuMemHostUnregister", 4000, (void *at))                                \
	X(host_address, "cuMemHostGetDevicePointer", 3020,                                         \
	  (vac_cu_address * address, void *at, unsigned flags))                                    \
	X(upload, "cuMemcpyHtoDAsync", 3020,                                                       \
	  (vac_cu_address to, const void *from, size_t bytes, struct CUstream_st *stream))         \
	X(download, "cuMemcpyDtoHAsync", 3020,                                                     \
	  (void *to, vac_cu_address from, size_t bytes, struct CUstream_st *stream))               \
	X(stream_create, "cuStreamCreate", 2000, (struct CUstream_st * *stream, unsigned flags))   \
	X(stream_destroy, "cuStreamDestroy", 4000, (struct CUstream_st * stream))                  \
	X(stream_synchronize, "cuStreamSynchronize", 2000, (struct CUstream_st * stream))          \
	X(event_create, "cuEventCreate", 2000, (struct CUevent_st * *event, unsigned flags))       \
	X(event_destroy, "cuEventDestroy", 4000, (struct CUevent_st * event))                      \
	X(event_record, "cuEventRecord", 2000,                                                     \
	  (struct CUevent_st * event, struct CUstream_st * stream))                                \
	X(event_synchronize, "cuEventSynchronize", 2000, (struct CUevent_st * event))              \
	X(event_query, "cuEventQuery", 2000, (struct CUevent_st * event))                          \
	X(module_load, "cuModuleLoadData", 2000, (struct CUmod_st * *module, const void *image))   \
	X(module_unload, "cuModuleUnload", 2000, (struct CUmod_st * module))                       \
	X(module_function, "cuModuleGetFunction", 2000,                                            \
	  (struct CUfunc_st * *function, struct CUmod_st * module, const char *name))              \
	X(func_set_attribute, "cuFuncSetAttribute", 9000,                                          \
	  (struct CUfunc_st * function, int attribute, int value))                                 \
	X(launch, "cuLaunchKernel", 4000,                                                          \
	  (struct CUfunc_st * function, unsigned grid_x, unsigned grid_y, unsigned grid_z,         \
	   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,            \
	   struct CUstream_st *stream, void **parameters, void **extra))                           \
	X(tensor_map, "cuTensorMapEncodeTiled", 12000,                                             \
	  (struct vac_cu_tensor_map * map, int type, unsigned rank, void *at,                      \
	   const uint64_t *sizes, const uint64_t *strides, const unsigned *box,                    \
	   const unsigned *steps, int interleave, int swizzle, int promotion, int fill))           \
	X(capture_begin, "cuStreamBeginCapture", 10010, (struct CUstream_st * stream, int mode))   \
	X(capture_end, "cuStreamEndCapture", 10000,                                                \
	  (struct CUstream_st * stream, struct CUgraph_st * *graph))                               \
	X(graph_instantiate, "cuGraphInstantiateWithFlags", 11040,                                 \
	  (struct CUgraphExec_st * *exec, struct CUgraph_st * graph, unsigned long long flags))    \
	X(graph_launch, "cuGraphLaunch", 10000,                                                    \
	  (struct CUgraphExec_st * exec, struct CUstream_st * stream))                             \
	X(graph_exec_destroy, "cuGraphExecDestroy", 10000, (struct CUgraphExec_st * exec))         \
	X(graph_destroy, "cuGraphDestroy", 10000, (struct CUgraph_st * graph))                     \
	X(error_name, "cuGetErrorName", 6000, (int result, const char **name))                     \
	X(error_string, "cuGetErrorString", 6000, (int result, const char **text))

/* What a driver of CUDA 12.8 (570) and later has; all NULL in an older one. They act
 * on another process, by its number. The last arguments of checkpoint and unlock are
 * reserved: NULL. */
#define VAC_CUDA_CHECKPOINT_FUNCTIONS(X)                                                           \
	X(process_state, "cuCheckpointProcessGetState", 12080, (int pid, int *state))              \
	X(process_lock, "cuCheckpointProcessLock", 12080, (int pid, struct vac_cu_lock *args))     \
	X(process_checkpoint, "cuCheckpointProcessCheckpoint", 12080, (int pid, void *args))       \
	X(process_restore, "cuCheckpointProcessRestore", 12080,                                    \
	  (int pid, struct vac_cu_restore *args))                                                  \
	X(process_unlock, "cuCheckpointProcessUnlock", 12080, (int pid, void *args))

struct vac_cuda {
#define VAC_CUDA_MEMBER(member, symbol, version, parameters) int(*member) parameters;
	VAC_CUDA_FUNCTIONS(VAC_CUDA_MEMBER)
	VAC_CUDA_CHECKPOINT_FUNCTIONS(VAC_CUDA_MEMBER)
#undef VAC_CUDA_MEMBER
};

/* The oldest driver that is used: CUDA 12.0 (525). */
#define VAC_CUDA_OLDEST 12000

/* Finds the driver once; it stays loaded. VAC_E_NOT_FOUND: there is none;
 * VAC_E_UNSUPPORTED: it is too old. Does not touch a device. */
int vac_cuda_load(const struct vac_cuda **out, struct vac_error *err) VAC_MUST_CHECK;
/* Tests: this table instead, from the next load on; NULL: the real one again. */
void vac_cuda_inject(const struct vac_cuda *table);
/* Where it was found, for people; NULL: not loaded, or injected. */
const char *vac_cuda_path(void);

/* The functions of VAC_CUDA_CHECKPOINT_FUNCTIONS are there. */
static inline bool vac_cuda_has_checkpoint(const struct vac_cuda *cuda)
{
	return cuda->process_state && cuda->process_lock && cuda->process_checkpoint &&
	       cuda->process_restore && cuda->process_unlock;
}

#define VAC_CUDA_UUID_BYTES 48
/* A device's UUID as NVML writes it: "GPU-...", or "MIG-..." of a slice, which the driver
 * tells by the name that it gives to one. A result of the driver's. */
int vac_cuda_uuid(const struct vac_cuda *cuda, int device, char out[VAC_CUDA_UUID_BYTES]);
static inline bool vac_cuda_is_slice(const char *uuid)
{
	return uuid[0] == 'M';
}

/* Fills err for a driver of that version, which is below VAC_CUDA_OLDEST. */
int vac_cuda_too_old(struct vac_error *err, int version);
/* Fills err for a result that is not 0: out of memory is VAC_E_NO_ROOM, no
 * device, no permission and the like a sentence of their own, and what ends
 * the context VAC_E_GONE. what: "reserving 4096 bytes". */
int vac_cuda_fail(const struct vac_cuda *cuda, struct vac_error *err, int result, const char *what);

#endif
