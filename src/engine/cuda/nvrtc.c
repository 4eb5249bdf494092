/* nvrtc.c - finds NVRTC and compiles the kernels with it; see kernels.h. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/find.h"
#include "engine/cuda/kernels.h"

#define MOST_SOURCES 16

static struct vac_nvrtc table;

static int load(struct vac_library *library, int cuda_major, struct vac_error *err)
{
	static const struct vac_symbol functions[] = {
#define ENTRY(member, symbol, parameters) {symbol, offsetof(struct vac_nvrtc, member)},
		VAC_NVRTC_FUNCTIONS(ENTRY)
#undef ENTRY
	};
	static const struct vac_toolkit_library from = {
		.names = {"libnvrtc.so.13", "libnvrtc.so.12"},
		.missing = "NVRTC was not found, and it must compile the kernels for this GPU once",
		.wheel = "nvidia-cuda-nvrtc",
		.symbols = functions,
		.symbol_count = sizeof(functions) / sizeof(functions[0]),
	};
	return vac_library_load_toolkit(library, &from, cuda_major, err);
}

static struct vac_library library = {
	.lock = PTHREAD_MUTEX_INITIALIZER, .load = load, .table = &table};

int vac_nvrtc_load(int cuda_major, const struct vac_nvrtc **out, struct vac_error *err)
{
	const void *got = NULL;
	int rc = vac_library_get(&library, cuda_major, &got, err);
	*out = got;
	return rc;
}

void vac_nvrtc_inject(const struct vac_nvrtc *to)
{
	vac_library_inject(&library, to);
}

const char *vac_nvrtc_path(void)
{
	return vac_library_path(&library);
}

/* The first line of the log that says "error" is what a person needs. */
static int fail_compile(const struct vac_nvrtc *nvrtc, struct _nvrtcProgram *program,
			const char *arch, struct vac_error *err)
{
	size_t bytes = 0;
	char *log = NULL;
	int rc = vac_fail(err, VAC_E_INTERNAL, "NVRTC does not compile the kernels for %s", arch);
	if (nvrtc->log_bytes(program, &bytes) == 0 && bytes > 0 && (log = malloc(bytes + 1)) &&
	    nvrtc->log(program, log) == 0) {
		log[bytes] = '\0';
		char *line = strstr(log, "error");
		while (line && line > log && line[-1] != '\n')
			line--;
		if (!line)
			line = log;
		vac_error_detail(err, "%.*s", (int)strcspn(line, "\n"), line);
	}
	free(log);
	return rc;
}

static int take_cubin(const struct vac_nvrtc *nvrtc, struct _nvrtcProgram *program, void **image,
		      size_t *bytes, struct vac_error *err)
{
	if (nvrtc->cubin_bytes(program, bytes) != 0 || *bytes == 0)
		return vac_fail(err, VAC_E_INTERNAL, "NVRTC made no machine code");
	*image = malloc(*bytes);
	if (!*image)
		return vac_fail_nomem(err, "the kernels", *bytes);
	if (nvrtc->cubin(program, *image) == 0)
		return 0;
	free(*image);
	return vac_fail(err, VAC_E_INTERNAL, "NVRTC does not give its machine code");
}

/* arch: as nvcc's -arch. */
static int compile(const struct vac_nvrtc *nvrtc, const char *arch, int element, void **image,
		   size_t *bytes, struct vac_error *err)
{
	const char *names[MOST_SOURCES], *texts[MOST_SOURCES];
	char all[1024] = "", option[48], define[32];
	const char *const options[] = {option, define, "--std=c++17"};
	struct _nvrtcProgram *program;
	size_t used = 0;
	int count = 0;
	for (unsigned i = 0; i < vac_cuda_source_count && i < MOST_SOURCES; i++, count++) {
		names[i] = vac_cuda_sources[i].name;
		texts[i] = vac_cuda_sources[i].text;
		used += (size_t)snprintf(all + used, sizeof(all) - used, "#include \"%s\"\n",
					 names[i]);
	}
	snprintf(option, sizeof(option), "--gpu-architecture=%s", arch);
	snprintf(define, sizeof(define), "-DVAC_ELEMENT=%d", element);
	if (nvrtc->create(&program, all, "vacate.cu", count, texts, names) != 0)
		return vac_fail(err, VAC_E_INTERNAL, "NVRTC does not start");
	int rc = nvrtc->compile(program, 3, options) == 0
			 ? take_cubin(nvrtc, program, image, bytes, err)
			 : fail_compile(nvrtc, program, arch, err);
	nvrtc->destroy(&program);
	return rc;
}

int vac_cuda_compile(const struct vac_nvrtc *nvrtc, int architecture, int element, void **image,
		     size_t *bytes, struct vac_error *err)
{
	char arch[16];
	/* with what only this one has, wgmma; CUDA before 12.0 does not know that */
	if (architecture == 90 && compile(nvrtc, "sm_90a", element, image, bytes, NULL) == 0)
		return 0;
	snprintf(arch, sizeof(arch), "sm_%d", architecture);
	return compile(nvrtc, arch, element, image, bytes, err);
}
