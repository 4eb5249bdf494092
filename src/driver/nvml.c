/* nvml.c - see nvml.h. */
#include "driver/nvml.h"

#include "base/survey.h"
#include "driver/find.h"

static struct vac_nvml table;

static int load(struct vac_library *library, int cuda_major, struct vac_error *err)
{
	(void)cuda_major;
	static const char *const names[] = {"libnvidia-ml.so.1"};
	static const struct vac_symbol functions[] = {
#define ENTRY(member, symbol, parameters) {symbol, offsetof(struct vac_nvml, member)},
		VAC_NVML_FUNCTIONS(ENTRY)};
	static const struct vac_symbol optional[] = {VAC_NVML_OPTIONAL(ENTRY)};
#undef ENTRY
	if (!library->found.handle &&
	    vac_find_library(names, 1, VAC_FIND_DRIVER, &library->found) < 0)
		return vac_fail(err, VAC_E_NOT_FOUND,
				"there is no NVML here (libnvidia-ml.so.1 was not found; it comes "
				"with the NVIDIA driver)%s%s",
				*library->found.refused ? ": " : "", library->found.refused);
	vac_find_optional(&library->found, optional, sizeof(optional) / sizeof(optional[0]),
			  &table);
	return vac_find_symbols(&library->found, functions,
				sizeof(functions) / sizeof(functions[0]), &table, err);
}

static struct vac_library library = {
	.lock = PTHREAD_MUTEX_INITIALIZER, .load = load, .table = &table};

int vac_nvml_load(const struct vac_nvml **out, struct vac_error *err)
{
	const void *got = NULL;
	int rc = vac_library_get(&library, 0, &got, err);
	*out = got;
	return rc;
}

void vac_nvml_inject(const struct vac_nvml *to)
{
	vac_library_inject(&library, to);
}

const char *vac_nvml_path(void)
{
	return vac_library_path(&library);
}

static int refused(struct vac_error *err, const char *what, int result)
{
	char text[80];
	int rc = vac_fail(err, VAC_E_IO, "NVML does not tell %s: %s", what,
			  vac_survey_says(result, text));
	vac_error_detail(err, "NVML error %d", result);
	return rc;
}

/* A device that is cut into slices tells who is on it to some users only: who is on a slice
 * the slice tells. */
static bool is_cut(const struct vac_nvml *nvml, struct nvmlDevice_st *device)
{
	unsigned current, pending;
	return nvml->mig_mode && nvml->mig_mode(device, &current, &pending) == VAC_NVML_OK &&
	       current;
}

static int read_device(const struct vac_nvml *nvml, struct nvmlDevice_st *device,
		       struct vac_nvml_device *out, struct vac_error *err)
{
	unsigned count = VAC_NVML_MOST_PROCESSES;
	int rc = nvml->name(device, out->name, sizeof(out->name));
	if (rc == VAC_NVML_OK)
		rc = nvml->uuid(device, out->uuid, sizeof(out->uuid));
	if (rc == VAC_NVML_OK)
		rc = nvml->memory(device, &out->memory);
	if (rc != VAC_NVML_OK)
		return refused(err, "what is on the device", rc);
	/* A list that has no room is not begun: what stands in it then is an older one's. */
	rc = nvml->processes(device, &count, out->processes);
	if ((rc == VAC_NVML_NO_PERMISSION || rc == VAC_NVML_NOT_SUPPORTED) && is_cut(nvml, device))
		rc = count = 0;
	if (rc != VAC_NVML_OK || count > VAC_NVML_MOST_PROCESSES)
		return refused(err, "which processes use the device", rc);
	out->process_count = count;
	return 0;
}

static int read_index(const struct vac_nvml *nvml, unsigned index, struct vac_nvml_device *out,
		      struct vac_error *err)
{
	struct nvmlDevice_st *device;
	int result = nvml->by_index(index, &device);
	return result == VAC_NVML_OK ? read_device(nvml, device, out, err)
				     : refused(err, "what is on the device", result);
}

static int start(const struct vac_nvml **out, struct vac_error *err)
{
	int rc = vac_nvml_load(out, err);
	if (rc < 0)
		return rc;
	int result = (*out)->init();
	return result == VAC_NVML_OK
		       ? 0
		       : refused(err, "anything: its start failed (is the kernel's driver loaded?)",
				 result);
}

int vac_nvml_read_one(const char *uuid, struct vac_nvml_device *out, struct vac_error *err)
{
	struct nvmlDevice_st *device;
	const struct vac_nvml *nvml;
	int rc = start(&nvml, err);
	if (rc < 0)
		return rc;
	int result = nvml->by_uuid(uuid, &device);
	rc = result == VAC_NVML_OK ? read_device(nvml, device, out, err)
				   : refused(err, "where the device is", result);
	nvml->shutdown();
	return rc;
}

/* NVML is started. */
static int read_answering(const struct vac_nvml *nvml, unsigned devices,
			  struct vac_nvml_device *out, uint32_t capacity, uint32_t *count,
			  struct vac_error *err)
{
	struct vac_error why, first = {0};
	unsigned i = 0;

	*count = 0;
	for (; i < devices && *count < capacity; i++) {
		if (read_index(nvml, i, &out[*count], &why) == 0)
			++*count;
		else if (first.code == VAC_OK)
			first = why;
	}
	if (*count == 0 && first.code != VAC_OK) {
		if (err)
			*err = first;
		return vac_error_errno(first.code);
	}
	*count += devices - i;
	return 0;
}

static int read_each(const struct vac_nvml *nvml, unsigned devices, struct vac_nvml_device *out,
		     uint32_t capacity, uint32_t *count, struct vac_error *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < devices && i < capacity; i++)
		rc = read_index(nvml, i, &out[i], err);
	*count = devices;
	return rc;
}

static int read_all(bool answering, struct vac_nvml_device *out, uint32_t capacity, uint32_t *count,
		    char driver_version[80], struct vac_error *err)
{
	const struct vac_nvml *nvml;
	unsigned devices = 0;
	int result, rc = start(&nvml, err);

	if (rc < 0)
		return rc;
	result = nvml->count(&devices);
	if (result == VAC_NVML_OK && driver_version)
		result = nvml->driver_version(driver_version, 80);
	if (result != VAC_NVML_OK)
		rc = refused(err, "how many devices there are", result);
	else if (answering)
		rc = read_answering(nvml, devices, out, capacity, count, err);
	else
		rc = read_each(nvml, devices, out, capacity, count, err);
	nvml->shutdown();
	return rc;
}

int vac_nvml_read(struct vac_nvml_device *out, uint32_t capacity, uint32_t *count,
		  char driver_version[80], struct vac_error *err)
{
	*count = 0;
	return read_all(false, out, capacity, count, driver_version, err);
}

int vac_nvml_read_answering(struct vac_nvml_device *out, uint32_t capacity, uint32_t *count,
			    struct vac_error *err)
{
	*count = 0;
	return read_all(true, out, capacity, count, NULL, err);
}

const struct vac_nvml_process *vac_nvml_find(const struct vac_nvml_device *device, uint32_t pid)
{
	for (uint32_t i = 0; i < device->process_count && i < VAC_NVML_MOST_PROCESSES; i++)
		if (device->processes[i].pid == pid)
			return &device->processes[i];
	return NULL;
}
