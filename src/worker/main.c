/*
 * main.c - vacate-worker: the process that owns one device and the models on
 * it. Started by the server (or `vacate run`) with a socket on descriptor 3;
 * docs/wire.md says what is spoken there.
 */
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "engine/engine.h"
#include "worker/worker.h"

#define WORKER_FD 3

static const char usage[] =
	"usage: vacate-worker [--device cpu|cuda:N] [--backend cpu|cuda|reference]\n"
	"                     [--dtype float16|bfloat16|float32] [--threads N]\n"
	"                     [--max-batch-tokens N] [--sandbox auto|require|off] [--plan]\n"
	"\n"
	"Owns one device and the models on it, and speaks Vacate's wire protocol on\n"
	"descriptor 3. It is started by `vacate serve` and `vacate run`, not by hand.\n"
	"\n"
	"  --sandbox  how it confines itself before it reads a model\n"
	"  --doctor   say what was found and what is missing, and end\n"
	"  --plan     answer questions about plans only: nothing is loaded\n"
	"  --version  print the version\n";

enum {
	OPT_DEVICE = 256,
	OPT_BACKEND,
	OPT_DTYPE,
	OPT_THREADS,
	OPT_BATCH,
	OPT_SANDBOX,
	OPT_PLAN,
	OPT_DOCTOR,
	OPT_VERSION,
	OPT_HELP
};

static const struct option long_options[] = {
	{"device", required_argument, NULL, OPT_DEVICE},
	{"backend", required_argument, NULL, OPT_BACKEND},
	{"dtype", required_argument, NULL, OPT_DTYPE},
	{"threads", required_argument, NULL, OPT_THREADS},
	{"max-batch-tokens", required_argument, NULL, OPT_BATCH},
	{"sandbox", required_argument, NULL, OPT_SANDBOX},
	{"plan", no_argument, NULL, OPT_PLAN},
	{"doctor", no_argument, NULL, OPT_DOCTOR},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

static int parse_count(const char *option, const char *text, uint32_t most, uint32_t *out)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || value > most) {
		fprintf(stderr,
			"vacate-worker: --%s takes a number from 0 to %" PRIu32 ", not '%s'\n",
			option, most, text);
		return -1;
	}
	*out = (uint32_t)value;
	return 0;
}

/* Tells what there is for each kind of device. Negative: a GPU cannot be used, and
 * one was asked for. */
static int look(bool cpu_is_enough)
{
	static const char *const backends[] = {"cpu", "cuda"};
	struct vac_buf lines = VAC_BUF_INIT;
	int rc = 0;

	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
		struct vac_buf found = VAC_BUF_INIT;

		rc = vac_engine_diagnose(backends[i], &found);
		vac_buf_printf(&lines, "%s: %s\n", backends[i],
			       rc == 0 ? "ready" : "cannot be used here");
		vac_buf_put(&lines, found.data, found.bytes);
		vac_buf_free(&found);
		if (i == 0 && rc < 0)
			cpu_is_enough = false;
	}
	fwrite(lines.data, 1, lines.bytes, stdout);
	vac_buf_free(&lines);
	return cpu_is_enough ? 0 : rc;
}

/* 0: go on, 1: done, 2: wrong use, 3: the doctor found something missing. */
static int parse(int argc, char **argv, struct vac_worker_options *options)
{
	const char *backend;
	struct vac_error err;
	bool doctor = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (opt) {
		case OPT_DEVICE:
			options->device = optarg;
			break;
		case OPT_BACKEND:
			options->backend = optarg;
			break;
		case OPT_DTYPE:
			options->dtype = optarg;
			break;
		case OPT_THREADS:
			if (parse_count("threads", optarg, 1024, &options->threads) < 0)
				return 2;
			break;
		case OPT_BATCH:
			if (parse_count("max-batch-tokens", optarg, 1u << 20,
					&options->max_batch_tokens) < 0)
				return 2;
			break;
		case OPT_SANDBOX:
			if (vac_sandbox_parse(optarg, &options->sandbox) < 0) {
				fprintf(stderr,
					"vacate-worker: --sandbox takes auto, require or off, not "
					"'%s'\n",
					optarg);
				return 2;
			}
			break;
		case OPT_PLAN:
			options->plan_only = true;
			break;
		case OPT_DOCTOR:
			doctor = true;
			break;
		case OPT_VERSION:
			puts("vacate-worker " VAC_VERSION);
			return 1;
		case OPT_HELP:
			fputs(usage, stdout);
			return 1;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	if (vac_engine_parse_device(options->device, &backend, &options->device_number, &err) < 0) {
		fprintf(stderr, "vacate-worker: %s\n", err.message);
		return 2;
	}
	if (doctor)
		return look(strcmp(backend, "cpu") == 0) < 0 ? 3 : 1;
	if (!options->backend)
		options->backend = backend;
	return 0;
}

/* glibc raises its mmap threshold with each large block that is freed, and keeps
 * on its heap up to twice as much as that: frames of thousands of requests would
 * stay. Fixed, they are mappings that go back when they are freed. */
static void fix_thresholds(void)
{
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	mallopt(M_TRIM_THRESHOLD, 128 << 10);
}

int main(int argc, char **argv)
{
	struct vac_worker_options options = {.fd = WORKER_FD, .device = "cpu"};
	struct vac_error err;
	struct stat st;
	int rc = parse(argc, argv, &options);

	if (rc != 0)
		return rc == 1 ? 0 : rc == 3 ? 1 : rc;
	vac_log_init("vacate-worker", VAC_LOG_INFO);
	fix_thresholds();
	if (fstat(options.fd, &st) != 0 || !S_ISSOCK(st.st_mode)) {
		fprintf(stderr,
			"vacate-worker: descriptor 3 is not a socket; this program is started "
			"by `vacate serve` and `vacate run`\n");
		return 2;
	}
	rc = vac_worker_run(&options, &err);
	if (rc < 0) {
		vac_log(VAC_LOG_ERROR, "%s", err.message);
		return 1;
	}
	return 0;
}
