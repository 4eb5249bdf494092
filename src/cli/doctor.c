/*
 * doctor.c - `vacate doctor`: what of this machine models can run on. The
 * worker looks, since it knows the devices; this program becomes it. One
 * thread.
 */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "wire/spawn.h"

static int run(const struct vac_command *command, int argc, char **argv)
{
	const char *values[1] = {"cpu"};
	struct vac_arguments arguments = {.values = values, .most = 1};
	char path[VAC_WORKER_PATH_BYTES];
	struct vac_error err;
	int rc = vac_options_parse(command, NULL, 0, &arguments, argc, argv);

	if (rc != VAC_CONTINUE)
		return rc;
	if (vac_worker_find(path, &err) < 0) {
		vac_complain(command, "%s", err.message);
		return VAC_EXIT_FAILED;
	}
	execl(path, "vacate-worker", "--doctor", "--device", values[0], (char *)NULL);
	vac_complain(command, "%s: cannot be started: %s", path, strerror(errno));
	return VAC_EXIT_FAILED;
}

const struct vac_command vac_command_doctor = {
	.name = "doctor",
	.arguments = "[DEVICE]",
	.summary = "Says what models can run on here, what is missing, and what installs it",
	.details = "Looks for the NVIDIA driver, NVML, cuBLASLt and NVRTC in the loader's path,\n"
		   "the CUDA toolkit and Python environments; VACATE_CUDA_PATH, directories with\n"
		   "':' between them, comes first. With DEVICE (cpu, cuda, cuda:0) the exit\n"
		   "status is 1 when that cannot be used.",
	.run = run,
};
