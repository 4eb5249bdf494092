/*
 * cuda.c - see cuda.h. Every function is asked of cuGetProcAddress by the
 * version that has it in the form declared here, so that a newer driver's other
 * forms of the same name cannot come in.
 */
#include "driver/cuda.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "driver/find.h"

typedef int get_proc_fn(const char *symbol, void **out, int version, unsigned long long flags,
			int *status);

static struct vac_cuda table;

static int resolve(const struct vac_library *library, get_proc_fn *get, struct vac_error *err)
{
	static const struct {
		const char *symbol;
		int version;
		size_t offset;
		bool optional; /* an older driver does without: NULL */
	} functions[] = {
#define ENTRY(member, symbol, version, parameters)                                                 \
	{symbol, version, offsetof(struct vac_cuda, member), false},
#define OPTIONAL_ENTRY(member, symbol, version, parameters)                                        \
	{symbol, version, offsetof(struct vac_cuda, member), true},
		VAC_CUDA_FUNCTIONS(ENTRY) VAC_CUDA_CHECKPOINT_FUNCTIONS(OPTIONAL_ENTRY)
#undef OPTIONAL_ENTRY
#undef ENTRY
	};
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		void *function = NULL;
		int status = 0;
		int rc = get(functions[i].symbol, &function, functions[i].version, 0, &status);
		if (rc != VAC_CU_OK)
			function = NULL;
		if (!function && !functions[i].optional)
			return vac_fail(
				err, VAC_E_UNSUPPORTED,
				"%s: the NVIDIA driver has no %s; install driver 525 or later",
				library->found.path, functions[i].symbol);
		*(void **)((char *)&table + functions[i].offset) = function;
	}
	return 0;
}

static int load(struct vac_library *library, int cuda_major, struct vac_error *err)
{
	(void)cuda_major;
	static const char *const names[] = {"libcuda.so.1"};
	int version = 0, rc;
	if (!library->found.handle &&
	    vac_find_library(names, 1, VAC_FIND_DRIVER, &library->found) < 0)
		return vac_fail(err, VAC_E_NOT_FOUND,
				"there is no NVIDIA driver here (libcuda.so.1 was not found)%s%s",
				*library->found.refused ? ": " : "", library->found.refused);
	/* a symbol's address is an object pointer to dlsym */
	get_proc_fn *get;
	*(void **)&get = dlsym(library->found.handle, "cuGetProcAddress_v2");
	if (!get)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"%s: the NVIDIA driver is older than CUDA 12.0; install driver 525 "
				"or later",
				library->found.path);
	rc = resolve(library, get, err);
	if (rc < 0)
		return rc;
	rc = table.driver_version(&version);
	if (rc != VAC_CU_OK)
		return vac_cuda_fail(&table, err, rc, "asking the driver's version");
	if (version < VAC_CUDA_OLDEST)
		return vac_cuda_too_old(err, version);
	return 0;
}

int vac_cuda_uuid(const struct vac_cuda *cuda, int device, char out[VAC_CUDA_UUID_BYTES])
{
	char name[128], *to = out;
	struct vac_cu_uuid id;
	int rc = cuda->device_uuid(&id, device);
	if (rc == VAC_CU_OK)
		rc = cuda->device_name(name, (int)sizeof(name), device);
	if (rc != VAC_CU_OK)
		return rc;
	to += sprintf(to, strstr(name, " MIG ") ? "MIG-" : "GPU-");
	for (int i = 0; i < 16; i++)
		to += sprintf(to, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x",
			      (unsigned char)id.bytes[i]);
	return VAC_CU_OK;
}

int vac_cuda_too_old(struct vac_error *err, int version)
{
	return vac_fail(err, VAC_E_UNSUPPORTED,
			"the NVIDIA driver is made for CUDA %d.%d; install driver 525 (CUDA 12.0) "
			"or later",
			version / 1000, version % 1000 / 10);
}

static struct vac_library library = {
	.lock = PTHREAD_MUTEX_INITIALIZER, .load = load, .table = &table};

int vac_cuda_load(const struct vac_cuda **out, struct vac_error *err)
{
	const void *got = NULL;
	int rc = vac_library_get(&library, 0, &got, err);
	*out = got;
	return rc;
}

void vac_cuda_inject(const struct vac_cuda *to)
{
	vac_library_inject(&library, to);
}

const char *vac_cuda_path(void)
{
	return vac_library_path(&library);
}

/* What a person can do about some results. */
static const struct {
	int result;
	enum vac_error_code code;
	const char *text;
} known[] = {
	{VAC_CU_OUT_OF_MEMORY, VAC_E_NO_ROOM,
	 "the GPU has no memory left for it; unload another model or end who else uses the GPU"},
	{VAC_CU_STUB_LIBRARY, VAC_E_NOT_FOUND,
	 "the libcuda.so.1 that was found is the toolkit's stub; install the NVIDIA driver"},
	{VAC_CU_DEVICE_UNAVAILABLE, VAC_E_BUSY,
	 "the GPU is in use by another process that has it for itself (compute mode)"},
	{VAC_CU_NO_DEVICE, VAC_E_NOT_FOUND,
	 "the driver sees no GPU; look at CUDA_VISIBLE_DEVICES and at who may open /dev/nvidia*"},
	{VAC_CU_INVALID_DEVICE, VAC_E_NOT_FOUND, "there is no such GPU; nvidia-smi -L lists them"},
	{VAC_CU_NO_BINARY_FOR_GPU, VAC_E_UNSUPPORTED,
	 "the kernels were not compiled for this GPU; empty the kernel cache and install NVRTC"},
	{VAC_CU_ECC_UNCORRECTABLE, VAC_E_GONE, "the GPU has an uncorrectable memory error (ECC)"},
	{VAC_CU_NVLINK_UNCORRECTABLE, VAC_E_GONE, "the GPU has an uncorrectable NVLink error"},
	{VAC_CU_CONTAINED, VAC_E_GONE, "the GPU had a memory error that ended this process's work"},
	{VAC_CU_OPERATING_SYSTEM, VAC_E_IO,
	 "the system refused a call of the driver; look at who may open /dev/nvidia*"},
	{VAC_CU_NOT_PERMITTED, VAC_E_IO, "the driver does not permit it"},
	{VAC_CU_SYSTEM_NOT_READY, VAC_E_BUSY,
	 "the GPU's system is not ready yet (on NVSwitch machines: nvidia-fabricmanager)"},
	{VAC_CU_DRIVER_MISMATCH, VAC_E_UNSUPPORTED,
	 "the kernel's driver and libcuda.so.1 are of different versions; reboot after an update"},
	{VAC_CU_COMPAT_NOT_SUPPORTED, VAC_E_UNSUPPORTED,
	 "the compatibility libcuda.so.1 does not work on this GPU; update the driver"},
};

/* These end the context: everything after them fails, too. */
static bool is_sticky(int result)
{
	return (result >= VAC_CU_ILLEGAL_ADDRESS && result < VAC_CU_NOT_PERMITTED &&
		result != 701 && result != 704 && result != 705 && result != 708 && result != 711 &&
		result != 712 && result != 713 && result != 720) ||
	       result == 999;
}

int vac_cuda_fail(const struct vac_cuda *cuda, struct vac_error *err, int result, const char *what)
{
	const char *name = NULL, *text = NULL;
	int rc = 0;
	if (cuda->error_name(result, &name) != VAC_CU_OK || !name)
		name = "unknown error";
	if (cuda->error_string(result, &text) != VAC_CU_OK || !text)
		text = "unknown error";
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && rc == 0; i++)
		if (known[i].result == result)
			rc = vac_fail(err, known[i].code, "%s: %s", what, known[i].text);
	if (rc == 0 && is_sticky(result))
		rc = vac_fail(err, VAC_E_GONE,
			      "%s: the GPU ended this process's work: %s; dmesg may say more", what,
			      text);
	if (rc == 0)
		rc = vac_fail(err, VAC_E_INTERNAL, "%s: the CUDA driver refused: %s", what, text);
	vac_error_detail(err, "%s (%d)", name, result);
	return rc;
}
