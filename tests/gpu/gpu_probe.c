/*
 * gpu_probe.c - what tests/gpu/run measures from within one process, by the
 * public library and NVML. One JSON object a line.
 *
 *   gpu_probe devices
 *       what NVML says of each device.
 *   gpu_probe watch
 *       the same as one array, for each line of standard input.
 *   gpu_probe cycles MODEL COUNT [--device cuda:0] [--dtype T] [--keep MODEL2]
 *                    [--smaps FILE]
 *       open, load, embed, unload, close, COUNT times; after each: is this process
 *       listed, the device's used bytes, RSS and private memory of this process.
 *       With --keep a second model stays resident and answers in each cycle. FILE.2 and
 *       FILE.last are /proc/self/smaps after these cycles.
 *   gpu_probe classes MODEL COUNT [--device cuda:0] [--dtype T]
 *       one text of 6, 14, 22, .. 510 words, COUNT times each: the device's used bytes
 *       after each length and the least time; last, after the unload.
 *   gpu_probe contexts COUNT [LIST]
 *       contexts made and destroyed without the library (gpu_contexts.h).
 *
 * With $VACATE_GPU_UUID there is that device alone (stream.py). CUDA's number 0 is it, too,
 * if CUDA_VISIBLE_DEVICES says so.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "driver/cuda.h"
#include "driver/nvml.h"
#include "gpu_contexts.h"
#include "memory/meter.h"
#include "vacate.h"

#define MOST_DEVICES 16

struct arguments {
	const char *model, *keep, *smaps;
	struct vacate_options options;
	int count;
};

static int fail(const char *what, const struct vac_error *err)
{
	fprintf(stderr, "gpu_probe: %s: %s (%s)\n", what, err->message, err->detail);
	return 1;
}

static struct vac_nvml_device devices[MOST_DEVICES];

/* At most MOST_DEVICES of them; the one that is meant, if one is. */
static int read_devices(uint32_t *count, char driver[80], struct vac_error *err)
{
	const char *uuid = getenv("VACATE_GPU_UUID");
	uint32_t i = 0;
	int rc = vac_nvml_read(devices, MOST_DEVICES, count, driver, err);
	if (rc == 0 && *count > MOST_DEVICES)
		*count = MOST_DEVICES;
	if (rc < 0 || !uuid)
		return rc;
	while (i < *count && strcmp(devices[i].uuid, uuid) != 0)
		i++;
	if (i == *count)
		return vac_fail(err, VAC_E_NOT_FOUND, "NVML has no device %s", uuid);
	if (i > 0)
		devices[0] = devices[i];
	*count = 1;
	return 0;
}

static int print_devices(const char *between, const char *end)
{
	struct vac_error err = {0};
	char driver[80];
	uint32_t count;
	if (read_devices(&count, driver, &err) < 0)
		return fail("NVML", &err);
	for (uint32_t i = 0; i < count; i++) {
		const struct vac_nvml_device *d = &devices[i];
		printf("%s{\"name\": \"%s\", \"uuid\": \"%s\", \"driver\": \"%s\", \"total\": "
		       "%llu, "
		       "\"used\": %llu, \"processes\": [",
		       i ? between : "", d->name, d->uuid, driver, d->memory.total, d->memory.used);
		for (uint32_t p = 0; p < d->process_count && p < VAC_NVML_MOST_PROCESSES; p++)
			printf("%s{\"pid\": %u, \"bytes\": %llu}", p ? ", " : "",
			       d->processes[p].pid, d->processes[p].used_bytes);
		printf("]}");
	}
	printf("%s", end);
	fflush(stdout);
	return 0;
}

/* NVML stays open meanwhile: a reading is quick. */
static int watch(void)
{
	const struct vac_nvml *nvml;
	struct vac_error err = {0};
	char line[64];
	int failed = 0;
	if (vac_nvml_load(&nvml, &err) < 0)
		return fail("NVML", &err);
	if (nvml->init() != VAC_NVML_OK)
		return fail("NVML does not start", &err);
	while (!failed && fgets(line, sizeof(line), stdin)) {
		printf("[");
		failed = print_devices(", ", "]\n");
	}
	nvml->shutdown();
	return failed;
}

static const char *const texts[] = {"The harbour is quiet.", "A lighthouse by the sea",
				    "Someone reads a long book about the history of the tides."};
#define TEXTS (sizeof(texts) / sizeof(texts[0]))

static int embed(struct vacate_model *model, float *sum, struct vac_error *err)
{
	uint32_t width = vacate_dimensions(model);
	float *vectors = malloc(TEXTS * width * sizeof(*vectors));
	if (!vectors)
		abort();
	int rc = vacate_embed(model, texts, TEXTS, NULL, vectors, err);
	*sum = 0;
	for (size_t i = 0; rc == 0 && i < TEXTS * width; i++)
		*sum += vectors[i] * (float)(i % 7);
	free(vectors);
	return rc;
}

/* After the model has gone: NVML without ours, /proc. */
static void print_cycle(int cycle, const struct vacate_receipt *r, const int64_t ns[4], float sum)
{
	struct vac_usage usage = {0};
	struct vac_error err;
	uint32_t count = 0;
	bool listed = false;
	if (vac_meter_process(0, &usage, NULL) < 0)
		usage.valid = false;
	if (read_devices(&count, NULL, &err) == 0)
		for (uint32_t i = 0; i < count; i++)
			listed |= vac_nvml_find(&devices[i], (uint32_t)getpid()) != NULL;
	printf("{\"cycle\": %d, \"listed\": %s, \"used\": %llu, \"planned\": %" PRIu64
	       ", \"ledger\": %" PRIu64 ", \"before\": %" PRIu64 ", \"after\": %" PRIu64
	       ", \"uss\": %" PRIu64 ", \"rss\": %" PRIu64
	       ", \"open_ms\": %.2f, \"load_ms\": %.2f, \"embed_ms\": %.3f, \"unload_ms\": %.2f, "
	       "\"sum\": %.6f}\n",
	       cycle, listed ? "true" : "false", devices[0].memory.used, r->device_planned_bytes,
	       r->device_ledger_bytes, r->device_used_before_bytes, r->device_used_after_bytes,
	       usage.uss_bytes, usage.rss_bytes, (double)ns[0] * 1e-6, (double)ns[1] * 1e-6,
	       (double)ns[2] * 1e-6, (double)ns[3] * 1e-6, (double)sum);
	fflush(stdout);
}

static int run_cycle(const struct arguments *a, int cycle, struct vacate *kept_on,
		     struct vacate_model *kept, struct vac_error *err)
{
	struct vacate *v = kept_on;
	struct vacate_model *model;
	struct vacate_receipt receipt;
	int64_t ns[4], start = vac_now_ns();
	float sum = 0, kept_sum;
	if (!v && vacate_open(&v, &a->options, err) < 0)
		return -1;
	ns[0] = vac_now_ns() - start;
	start = vac_now_ns();
	int rc = vacate_load(v, a->model, &model, err);
	ns[1] = vac_now_ns() - start;
	start = vac_now_ns();
	if (rc == 0)
		rc = embed(model, &sum, err);
	ns[2] = vac_now_ns() - start;
	if (rc == 0 && kept)
		rc = embed(kept, &kept_sum, err);
	start = vac_now_ns();
	/* the receipt's own measuring is not timed: every second cycle has none */
	if (rc == 0)
		vacate_unload(model, cycle % 2 ? NULL : &receipt);
	ns[3] = vac_now_ns() - start;
	if (cycle % 2)
		memset(&receipt, 0, sizeof(receipt));
	if (!kept_on)
		vacate_close(v);
	if (rc == 0)
		print_cycle(cycle, &receipt, ns, sum);
	return rc;
}

static void copy_smaps(const char *to, const char *which)
{
	static char data[1 << 16];
	char path[4096];
	size_t n;
	snprintf(path, sizeof(path), "%s.%s", to, which);
	FILE *in = fopen("/proc/self/smaps", "r"), *out = fopen(path, "w");
	while (in && out && (n = fread(data, 1, sizeof(data), in)) > 0)
		fwrite(data, 1, n, out);
	if (in)
		fclose(in);
	if (out)
		fclose(out);
}

/* What the device holds while this process has the driver open, and no more. */
static int print_idle(void)
{
	const struct vac_cuda *cuda;
	struct vac_error err = {0};
	uint32_t count;
	if (vac_cuda_load(&cuda, &err) < 0 || read_devices(&count, NULL, &err) < 0)
		return fail("start", &err);
	unsigned long long before = devices[0].memory.used;
	int result = cuda->init(0);
	if (result != VAC_CU_OK) {
		vac_cuda_fail(cuda, &err, result, "starting CUDA");
		return fail("start", &err);
	}
	if (read_devices(&count, NULL, &err) < 0)
		return fail("start", &err);
	printf("{\"cycle\": -2, \"closed\": %llu, \"used\": %llu}\n", before,
	       devices[0].memory.used);
	return 0;
}

static int run_cycles(const struct arguments *a)
{
	struct vacate *v = NULL;
	struct vacate_model *kept = NULL;
	struct vac_error err = {0};
	float sum;
	int rc = 0;
	if (print_idle() != 0)
		return 1;
	if (a->keep) {
		rc = vacate_open(&v, &a->options, &err);
		if (rc == 0)
			rc = vacate_load(v, a->keep, &kept, &err);
		if (rc == 0)
			rc = embed(kept, &sum, &err);
	}
	/* as often as a small batch may be asked for before it is recorded */
	for (int i = 0; rc == 0 && kept && i < 8; i++)
		rc = embed(kept, &sum, &err);
	for (int i = 0; rc == 0 && i < a->count; i++) {
		rc = run_cycle(a, i, v, kept, &err);
		if (a->smaps && (i == 2 || i == a->count - 1))
			copy_smaps(a->smaps, i == 2 ? "2" : "last");
	}
	if (rc == 0 && kept) {
		/* the last one goes, and with it the context */
		const int64_t none[4] = {0};
		struct vacate_receipt receipt;
		vacate_unload(kept, &receipt);
		print_cycle(-1, &receipt, none, 0);
	}
	vacate_close(v);
	return rc < 0 ? fail("cycle", &err) : 0;
}

static unsigned long long used_now(void)
{
	struct vac_error err;
	uint32_t count;
	return read_devices(&count, NULL, &err) < 0 ? 0 : devices[0].memory.used;
}

static int run_classes(const struct arguments *a)
{
	struct vacate *v = NULL;
	struct vacate_model *model = NULL;
	struct vac_error err = {0};
	float vector[4096];
	char text[4096];
	int rc = vacate_open(&v, &a->options, &err);
	if (rc == 0)
		rc = vacate_load(v, a->model, &model, &err);
	if (rc == 0 && vacate_dimensions(model) > 4096)
		rc = -1;
	printf("{\"words\": 0, \"used\": %llu}\n", used_now());
	for (int words = 6; rc == 0 && words <= 510; words += words < 62 ? 8 : 32) {
		const char *one = text;
		int64_t least = INT64_MAX;
		for (int i = 0; i < words; i++)
			memcpy(text + (size_t)i * 4, "sea ", 5);
		for (int i = 0; rc == 0 && i < a->count; i++) {
			int64_t start = vac_now_ns();
			rc = vacate_embed(model, &one, 1, NULL, vector, &err);
			int64_t ns = vac_now_ns() - start;
			least = ns < least ? ns : least;
		}
		printf("{\"words\": %d, \"used\": %llu, \"least_ms\": %.4f}\n", words, used_now(),
		       (double)least * 1e-6);
	}
	if (model)
		vacate_unload(model, NULL);
	printf("{\"words\": -1, \"used\": %llu}\n", used_now());
	vacate_close(v);
	return rc < 0 ? fail("classes", &err) : 0;
}

int main(int argc, char **argv)
{
	struct arguments a = {.options = {.device = "cuda:0"}, .count = 3};
	if (argc == 2 && strcmp(argv[1], "devices") == 0)
		return print_devices("\n", "\n");
	if (argc == 2 && strcmp(argv[1], "watch") == 0)
		return watch();
	if (argc >= 3 && strcmp(argv[1], "contexts") == 0)
		return run_contexts(atoi(argv[2]), argc > 3 ? argv[3] : "");
	if (argc < 4 || (strcmp(argv[1], "cycles") != 0 && strcmp(argv[1], "classes") != 0)) {
		fprintf(stderr, "usage: gpu_probe devices | watch | contexts COUNT [LIST] | "
				"cycles|classes MODEL COUNT "
				"[--device D] [--dtype T] [--keep MODEL] [--smaps FILE]\n");
		return 2;
	}
	a.model = argv[2];
	a.count = atoi(argv[3]);
	for (int i = 4; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--device") == 0)
			a.options.device = argv[i + 1];
		else if (strcmp(argv[i], "--dtype") == 0)
			a.options.dtype = argv[i + 1];
		else if (strcmp(argv[i], "--keep") == 0)
			a.keep = argv[i + 1];
		else if (strcmp(argv[i], "--smaps") == 0)
			a.smaps = argv[i + 1];
	}
	return strcmp(argv[1], "classes") == 0 ? run_classes(&a) : run_cycles(&a);
}
