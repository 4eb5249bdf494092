/*
 * test_cuda_headers.c - our declarations of the driver, cuBLASLt and NVRTC
 * against NVIDIA's headers: sizes, offsets, values, and that every function is
 * there in the version that we ask for. Built only where the headers are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cublasLt.h>
#include <cuda.h>
#include <cudaTypedefs.h>
#include <nvrtc.h>

#include "driver/cuda.h"
#include "engine/cuda/cublaslt.h"
#include "engine/cuda/kernels.h"

#define SAME_SIZE(a, b) _Static_assert(sizeof(a) == sizeof(b), #a " and " #b)
#define SAME_OFFSET(a, member_a, b, member_b)                                                      \
	_Static_assert(offsetof(a, member_a) == offsetof(b, member_b), #a "." #member_a)
#define SAME(a, b) _Static_assert((int)(a) == (int)(b), #a " and " #b)

SAME_SIZE(struct vac_cu_allocation, CUmemAllocationProp);
SAME_OFFSET(struct vac_cu_allocation, type, CUmemAllocationProp, type);
SAME_OFFSET(struct vac_cu_allocation, handle_types, CUmemAllocationProp, requestedHandleTypes);
SAME_OFFSET(struct vac_cu_allocation, location, CUmemAllocationProp, location);
SAME_OFFSET(struct vac_cu_allocation, win32, CUmemAllocationProp, win32HandleMetaData);
SAME_OFFSET(struct vac_cu_allocation, flags.compression, CUmemAllocationProp,
	    allocFlags.compressionType);
SAME_OFFSET(struct vac_cu_allocation, flags.rdma, CUmemAllocationProp,
	    allocFlags.gpuDirectRDMACapable);
SAME_OFFSET(struct vac_cu_allocation, flags.usage, CUmemAllocationProp, allocFlags.usage);
SAME_SIZE(struct vac_cu_access, CUmemAccessDesc);
SAME_OFFSET(struct vac_cu_access, location, CUmemAccessDesc, location);
SAME_OFFSET(struct vac_cu_access, flags, CUmemAccessDesc, flags);
SAME_SIZE(struct vac_cu_location, CUmemLocation);
SAME_OFFSET(struct vac_cu_location, id, CUmemLocation, id);
SAME_SIZE(vac_cu_address, CUdeviceptr);
SAME_SIZE(vac_cu_memory, CUmemGenericAllocationHandle);
SAME_SIZE(int, CUdevice);
SAME_SIZE(int, CUresult);
SAME_SIZE(struct vac_cu_uuid, CUuuid);

SAME_SIZE(struct vac_cu_tensor_map, CUtensorMap);
_Static_assert(_Alignof(struct vac_cu_tensor_map) == 64, "as cuda.h says, where compilers can");

SAME(VAC_CU_OK, CUDA_SUCCESS);
SAME(VAC_CU_INVALID_VALUE, CUDA_ERROR_INVALID_VALUE);
SAME(VAC_CU_NOT_INITIALIZED, CUDA_ERROR_NOT_INITIALIZED);
SAME(VAC_CU_INVALID_HANDLE, CUDA_ERROR_INVALID_HANDLE);
SAME(VAC_CU_ILLEGAL_STATE, CUDA_ERROR_ILLEGAL_STATE);
SAME(VAC_CU_NOT_FOUND, CUDA_ERROR_NOT_FOUND);
SAME(VAC_CU_NOT_READY, CUDA_ERROR_NOT_READY);
SAME(VAC_CU_NOT_SUPPORTED, CUDA_ERROR_NOT_SUPPORTED);
SAME(VAC_CU_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
SAME(VAC_CU_STUB_LIBRARY, CUDA_ERROR_STUB_LIBRARY);
SAME(VAC_CU_DEVICE_UNAVAILABLE, CUDA_ERROR_DEVICE_UNAVAILABLE);
SAME(VAC_CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
SAME(VAC_CU_INVALID_DEVICE, CUDA_ERROR_INVALID_DEVICE);
SAME(VAC_CU_NO_BINARY_FOR_GPU, CUDA_ERROR_NO_BINARY_FOR_GPU);
SAME(VAC_CU_ECC_UNCORRECTABLE, CUDA_ERROR_ECC_UNCORRECTABLE);
SAME(VAC_CU_NVLINK_UNCORRECTABLE, CUDA_ERROR_NVLINK_UNCORRECTABLE);
SAME(VAC_CU_CONTAINED, 226);
SAME(VAC_CU_OPERATING_SYSTEM, CUDA_ERROR_OPERATING_SYSTEM);
SAME(VAC_CU_ILLEGAL_ADDRESS, CUDA_ERROR_ILLEGAL_ADDRESS);
SAME(VAC_CU_LAUNCH_FAILED, CUDA_ERROR_LAUNCH_FAILED);
SAME(VAC_CU_NOT_PERMITTED, CUDA_ERROR_NOT_PERMITTED);
SAME(VAC_CU_SYSTEM_NOT_READY, CUDA_ERROR_SYSTEM_NOT_READY);
SAME(VAC_CU_DRIVER_MISMATCH, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
SAME(VAC_CU_COMPAT_NOT_SUPPORTED, CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE);
SAME(VAC_CU_CTX_SCHED_SPIN, CU_CTX_SCHED_SPIN);
SAME(VAC_CU_CTX_SCHED_BLOCKING, CU_CTX_SCHED_BLOCKING_SYNC);
SAME(VAC_CU_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
SAME(VAC_CU_EVENT_DISABLE_TIMING, CU_EVENT_DISABLE_TIMING);
SAME(VAC_CU_HOST_REGISTER_DEVICEMAP, CU_MEMHOSTREGISTER_DEVICEMAP);
SAME(VAC_CU_ATTRIBUTE_MULTIPROCESSORS, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
SAME(VAC_CU_ATTRIBUTE_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME(VAC_CU_ATTRIBUTE_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME(VAC_CU_TENSOR_F16, CU_TENSOR_MAP_DATA_TYPE_FLOAT16);
SAME(VAC_CU_TENSOR_BF16, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
SAME(VAC_CU_TENSOR_SWIZZLE_128, CU_TENSOR_MAP_SWIZZLE_128B);
SAME(VAC_CU_TENSOR_L2_128, CU_TENSOR_MAP_L2_PROMOTION_L2_128B);
SAME(VAC_CU_ATTRIBUTE_VMM, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
SAME(VAC_CU_FUNC_MAX_DYNAMIC_SHARED, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
SAME(VAC_CU_CAPTURE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
SAME(VAC_CU_ALLOCATION_PINNED, CU_MEM_ALLOCATION_TYPE_PINNED);
SAME(VAC_CU_LOCATION_DEVICE, CU_MEM_LOCATION_TYPE_DEVICE);
SAME(VAC_CU_ACCESS_READWRITE, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
SAME(VAC_CU_GRANULARITY_MINIMUM, CU_MEM_ALLOC_GRANULARITY_MINIMUM);

#if CUDA_VERSION >= 12080
SAME(VAC_CU_PROCESS_RUNNING, CU_PROCESS_STATE_RUNNING);
SAME(VAC_CU_PROCESS_LOCKED, CU_PROCESS_STATE_LOCKED);
SAME(VAC_CU_PROCESS_CHECKPOINTED, CU_PROCESS_STATE_CHECKPOINTED);
SAME(VAC_CU_PROCESS_FAILED, CU_PROCESS_STATE_FAILED);
SAME_SIZE(int, CUprocessState);
SAME_SIZE(struct vac_cu_lock, CUcheckpointLockArgs);
SAME_OFFSET(struct vac_cu_lock, timeout_ms, CUcheckpointLockArgs, timeoutMs);
SAME_OFFSET(struct vac_cu_lock, reserved1, CUcheckpointLockArgs, reserved1);
SAME_SIZE(struct vac_cu_restore, CUcheckpointRestoreArgs);
#endif
#if CUDA_VERSION >= 13000 /* all reserved before */
SAME_OFFSET(struct vac_cu_restore, pairs, CUcheckpointRestoreArgs, gpuPairs);
SAME_OFFSET(struct vac_cu_restore, pair_count, CUcheckpointRestoreArgs, gpuPairsCount);
SAME_OFFSET(struct vac_cu_restore, reserved1, CUcheckpointRestoreArgs, reserved1);
SAME_SIZE(struct vac_cu_gpu_pair, CUcheckpointGpuPair);
SAME_OFFSET(struct vac_cu_gpu_pair, from, CUcheckpointGpuPair, oldUuid);
SAME_OFFSET(struct vac_cu_gpu_pair, to, CUcheckpointGpuPair, newUuid);
#endif

SAME_SIZE(struct vac_blas_algorithm, cublasLtMatmulAlgo_t);
SAME_SIZE(struct vac_blas_choice, cublasLtMatmulHeuristicResult_t);
SAME_OFFSET(struct vac_blas_choice, algorithm, cublasLtMatmulHeuristicResult_t, algo);
SAME_OFFSET(struct vac_blas_choice, workspace_bytes, cublasLtMatmulHeuristicResult_t,
	    workspaceSize);
SAME_OFFSET(struct vac_blas_choice, state, cublasLtMatmulHeuristicResult_t, state);
SAME_OFFSET(struct vac_blas_choice, waves, cublasLtMatmulHeuristicResult_t, wavesCount);
SAME(VAC_BLAS_R_32F, CUDA_R_32F);
SAME(VAC_BLAS_R_16F, CUDA_R_16F);
SAME(VAC_BLAS_R_16BF, CUDA_R_16BF);
SAME(VAC_BLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F);
SAME(VAC_BLAS_OP_T, CUBLAS_OP_T);
SAME(VAC_BLAS_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSA);
SAME(VAC_BLAS_DESC_EPILOGUE, CUBLASLT_MATMUL_DESC_EPILOGUE);
SAME(VAC_BLAS_DESC_BIAS_POINTER, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
SAME(VAC_BLAS_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_DEFAULT);
SAME(VAC_BLAS_EPILOGUE_RELU, CUBLASLT_EPILOGUE_RELU);
SAME(VAC_BLAS_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_BIAS);
SAME(VAC_BLAS_EPILOGUE_RELU_BIAS, CUBLASLT_EPILOGUE_RELU_BIAS);
SAME(VAC_BLAS_LAYOUT_COLS, CUBLASLT_MATRIX_LAYOUT_COLS);
SAME(VAC_BLAS_PREF_MAX_WORKSPACE, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME(VAC_BLAS_PREF_ALIGNMENT_A, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
SAME(VAC_BLAS_PREF_ALIGNMENT_A + 3, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
SAME_SIZE(cublasStatus_t, int);
SAME_SIZE(nvrtcResult, int);

/* The functions by NVIDIA's own typedefs, which name the version. */
struct as_nvidia_has_it {
	PFN_cuInit_v2000 init;
	PFN_cuDriverGetVersion_v2020 driver_version;
	PFN_cuDeviceGetCount_v2000 device_count;
	PFN_cuDeviceGet_v2000 device_get;
	PFN_cuDeviceGetName_v2000 device_name;
	PFN_cuDeviceGetUuid_v11040 device_uuid;
	PFN_cuDeviceTotalMem_v3020 device_total;
	PFN_cuDeviceGetAttribute_v2000 device_attribute;
	PFN_cuCtxCreate_v3020 ctx_create;
	PFN_cuCtxDestroy_v4000 ctx_destroy;
	PFN_cuCtxPushCurrent_v4000 ctx_push;
	PFN_cuCtxPopCurrent_v4000 ctx_pop;
	PFN_cuMemGetInfo_v3020 mem_info;
	PFN_cuMemAddressReserve_v10020 mem_reserve;
	PFN_cuMemAddressFree_v10020 mem_address_free;
	PFN_cuMemCreate_v10020 mem_create;
	PFN_cuMemRelease_v10020 mem_release;
	PFN_cuMemMap_v10020 mem_map;
	PFN_cuMemUnmap_v10020 mem_unmap;
	PFN_cuMemSetAccess_v10020 mem_set_access;
	PFN_cuMemGetAllocationGranularity_v10020 mem_granularity;
	PFN_cuMemHostRegister_v6050 host_register;
	PFN_cuMemHostUnregister_v4000 host_unregister;
	PFN_cuMemHostGetDevicePointer_v3020 host_address;
	PFN_cuMemcpyHtoDAsync_v3020 upload;
	PFN_cuMemcpyDtoHAsync_v3020 download;
	PFN_cuStreamCreate_v2000 stream_create;
	PFN_cuStreamDestroy_v4000 stream_destroy;
	PFN_cuStreamSynchronize_v2000 stream_synchronize;
	PFN_cuEventCreate_v2000 event_create;
	PFN_cuEventDestroy_v4000 event_destroy;
	PFN_cuEventRecord_v2000 event_record;
	PFN_cuEventSynchronize_v2000 event_synchronize;
	PFN_cuEventQuery_v2000 event_query;
	PFN_cuModuleLoadData_v2000 module_load;
	PFN_cuModuleUnload_v2000 module_unload;
	PFN_cuModuleGetFunction_v2000 module_function;
	PFN_cuFuncSetAttribute_v9000 func_set_attribute;
	PFN_cuLaunchKernel_v4000 launch;
	PFN_cuTensorMapEncodeTiled_v12000 tensor_map;
	PFN_cuStreamBeginCapture_v10010 capture_begin;
	PFN_cuStreamEndCapture_v10000 capture_end;
	PFN_cuGraphInstantiateWithFlags_v11040 graph_instantiate;
	PFN_cuGraphLaunch_v10000 graph_launch;
	PFN_cuGraphExecDestroy_v10000 graph_exec_destroy;
	PFN_cuGraphDestroy_v10000 graph_destroy;
	PFN_cuGetErrorName_v6000 error_name;
	PFN_cuGetErrorString_v6000 error_string;
#if CUDA_VERSION >= 12080
	PFN_cuCheckpointProcessGetState_v12080 process_state;
	PFN_cuCheckpointProcessLock_v12080 process_lock;
	PFN_cuCheckpointProcessCheckpoint_v12080 process_checkpoint;
	PFN_cuCheckpointProcessRestore_v12080 process_restore;
	PFN_cuCheckpointProcessUnlock_v12080 process_unlock;
#endif
};

/* Each member is there, in our order, under a name and version that NVIDIA has
 * (a typedef that is not there does not compile). */
#define IN_ORDER(member, symbol, version, parameters)                                              \
	_Static_assert(offsetof(struct vac_cuda, member) ==                                        \
			       offsetof(struct as_nvidia_has_it, member),                          \
		       #member);
VAC_CUDA_FUNCTIONS(IN_ORDER)
#if CUDA_VERSION >= 12080
VAC_CUDA_CHECKPOINT_FUNCTIONS(IN_ORDER)
SAME_SIZE(struct vac_cuda, struct as_nvidia_has_it);
#endif

static void test_compiled(void **state)
{
	(void)state; /* the compiler has said it all */
	assert_true(CUDA_VERSION >= VAC_CUDA_OLDEST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_compiled)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
