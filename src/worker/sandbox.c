/*
 * sandbox.c - the worker gives up what reading models does not need. See
 * sandbox.h for when.
 */
#include "worker/sandbox.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sanitized.h"
#include "worker/request.h"
#include "worker/trial.h"

/* For a model's files while it is loaded (VAC_WIRE_MAX_FDS, twice) and those of
 * loads that wait. */
#define MAX_DESCRIPTORS 4096
#define MOST_PLACES     192
#define MOST_CALLS      192

/* ---- what the filter stopped ---- */

static size_t put_number(char *to, unsigned number)
{
	char digits[12];
	size_t n = 0, at = 0;

	do {
		digits[n++] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	while (n > 0)
		to[at++] = digits[--n];
	to[at] = '\0';
	return at;
}

static const char *call_name(int number)
{
	size_t count;
	const struct vac_call_rule *rules = vac_common_calls(&count);

	for (size_t i = 0; i < count; i++) {
		if (rules[i].number == number)
			return rules[i].name;
	}
	return "";
}

/* The process's name outlives it until it is reaped, so that who reaps it can say
 * which call it was; and the log gets a line. Only calls that a signal handler may
 * make, and that the filter allows. */
static void on_stopped(int signal_number, siginfo_t *info, void *context)
{
	char text[128] = "vacate-worker: the sandbox stopped system call ";
	char name[64] = "!";
	size_t n = strlen(text);

	(void)signal_number;
	(void)context;
	n += put_number(text + n, (unsigned)info->si_syscall);
	strcpy(text + n, " (");
	strcat(text, call_name(info->si_syscall));
	strcat(text, ")\n");
	(void)!write(STDERR_FILENO, text, strlen(text));
	n = 1 + put_number(name + 1, (unsigned)info->si_syscall);
	name[n] = ' ';
	strcpy(name + n + 1, call_name(info->si_syscall));
	prctl(PR_SET_NAME, name, 0, 0, 0); /* its first 15 bytes */
	syscall(SYS_reboot, 0, 0, 0, NULL);
	_exit(128 + SIGSYS);
}

static void watch_filter(void)
{
	struct sigaction action = {.sa_sigaction = on_stopped, .sa_flags = SA_SIGINFO};

	sigaction(SIGSYS, &action, NULL);
}

/* ---- what needs no kernel of any age ---- */

static void limit(int resource, rlim_t most)
{
	struct rlimit now;

	if (getrlimit(resource, &now) != 0 || now.rlim_max < most)
		return;
	now.rlim_cur = now.rlim_max = most;
	setrlimit(resource, &now);
}

/* What a library may read later on. The rest may hold secrets: overwritten, since
 * whoever reads this process's memory reads them where they lay. */
static bool is_kept(const char *variable)
{
	static const char *const kept[] = {
		"LANG=", "LC_", "TZ=", "MALLOC_", "GLIBC_", "LD_", "MIMALLOC_", "CUDA_", "NVIDIA_",
		"TMPDIR=",
		/* where the backend cuda finds libraries and keeps kernels, and how it works */
		"VACATE_CUDA_", "VACATE_HOLD_DIR=", "HOME=", "XDG_CACHE_HOME=", "PATH=",
		"VIRTUAL_ENV=", "CONDA_PREFIX="};

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		if (strncmp(variable, kept[i], strlen(kept[i])) == 0)
			return true;
	}
	return false;
}

static void reduce_environment(void)
{
	char **to = environ;

	for (char **at = environ; at && *at; at++) {
		if (is_kept(*at))
			*to++ = *at;
		else
			memset(*at, 0, strlen(*at));
	}
	if (to)
		*to = NULL;
}

/* A server that runs as root has workers without its powers. */
static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

	memset(none, 0, sizeof(none));
	syscall(SYS_capset, &header, none);
}

static void close_others(int socket)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned)socket + 1, ~0u, 0) == 0)
		return;
#endif
	for (int fd = socket + 1; fd < MAX_DESCRIPTORS; fd++)
		close(fd);
}

/* ---- places ---- */

struct places {
	size_t count;
	struct vac_path_rule rules[MOST_PLACES];
	char *texts[MOST_PLACES];
	bool full;
};

static void add_place(void *ctx, const char *path, enum vac_place how)
{
	static const uint64_t read = VAC_LANDLOCK_READ_FILE | VAC_LANDLOCK_READ_DIR;
	static const uint64_t rights[] = {
		[VAC_PLACE_READ] = read,
		[VAC_PLACE_LIBRARY] = read | VAC_LANDLOCK_EXECUTE,
		[VAC_PLACE_WRITE] = read | VAC_LANDLOCK_WRITE_FILE | VAC_LANDLOCK_MAKE |
				    VAC_LANDLOCK_REMOVE | VAC_LANDLOCK_TRUNCATE,
		[VAC_PLACE_DEVICE] =
			VAC_LANDLOCK_READ_FILE | VAC_LANDLOCK_WRITE_FILE | VAC_LANDLOCK_IOCTL_DEV,
	};
	struct places *places = ctx;
	char *text;

	if (access(path, F_OK) != 0)
		return;
	text = places->count < MOST_PLACES ? strdup(path) : NULL;
	if (!text) {
		places->full = true;
		return;
	}
	places->texts[places->count] = text;
	places->rules[places->count++] =
		(struct vac_path_rule){.path = text, .rights = rights[how]};
}

static void free_places(struct places *places)
{
	for (size_t i = 0; places && i < places->count; i++)
		free(places->texts[i]);
	free(places);
}

/* ---- all of it ---- */

static int refuse(enum vac_sandbox_mode mode, char *got, size_t room, const char *why,
		  struct vac_error *err)
{
	snprintf(got, room, "none (%s)", why);
	if (mode != VAC_SANDBOX_REQUIRE)
		return 0;
	return vac_fail(err, VAC_E_UNSUPPORTED,
			"the sandbox that --sandbox require asks for cannot be had: %s", why);
}

/* The rules of a profile, and before them what a request lets through. */
static const struct vac_call_rule *join_calls(const struct vac_sandbox_profile *profile,
					      const struct vac_sandbox_request *request,
					      size_t *count)
{
	static struct vac_call_rule rules[MOST_CALLS];

	*count = profile->call_count;
	if (request->call_count == 0 || request->call_count + *count > MOST_CALLS)
		return profile->calls;
	memcpy(rules, request->calls, request->call_count * sizeof(*rules));
	memcpy(rules + request->call_count, profile->calls, *count * sizeof(*rules));
	*count += request->call_count;
	return rules;
}

/* Landlock first: its calls are none that the filter lets pass. */
static int enter(enum vac_sandbox_mode mode, const struct vac_sandbox_profile *profile,
		 const struct vac_sandbox_request *request, const struct places *places, char *got,
		 size_t room, struct vac_error *err)
{
	const char *no_landlock = request->no_landlock ? "let through" : NULL;
	const char *no_filter = request->no_filter ? "let through" : NULL;
	char wall[96] = "no landlock";
	int version = -1;
	size_t count;
	const struct vac_call_rule *calls = join_calls(profile, request, &count);

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return refuse(mode, got, room, "new privileges cannot be given up", err);
	drop_capabilities();
	if (!no_landlock)
		version = vac_landlock_enter(places->rules, places->count, &no_landlock);
	if (version > 0)
		snprintf(wall, sizeof(wall), "landlock %d", version);
	else if (no_landlock)
		snprintf(wall, sizeof(wall), "no landlock (%s)", no_landlock);
	watch_filter();
	if (!no_filter && vac_filter_install(calls, count, NULL, &no_filter) == 0)
		snprintf(got, room, "seccomp, %s", wall);
	else if (version > 0)
		snprintf(got, room, "no seccomp (%s), %s", no_filter, wall);
	else
		return refuse(mode, got, room, no_filter, err);
	/* The filter alone leaves no way to a file when the profile opens none. */
	if (mode == VAC_SANDBOX_REQUIRE && (no_filter || (version <= 0 && places->count)))
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"the sandbox that --sandbox require asks for cannot be had: %s",
				got);
	return 0;
}

/* Nothing is refused. The places are kept for as long as the process lives. */
static int enter_trial(const struct vac_sandbox_profile *profile, struct places *places, char *got,
		       size_t room, struct vac_error *err)
{
	const char *why = NULL;
	int listener = -1, rc;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return refuse(VAC_SANDBOX_AUTO, got, room, "new privileges cannot be given up",
			      err);
	rc = vac_trial_begin(places->rules, places->count, profile->calls, profile->call_count,
			     &why);
	if (rc == 0) {
		rc = vac_filter_install(profile->calls, profile->call_count, &listener, &why);
		vac_trial_watch(listener);
	}
	snprintf(got, room, rc == 0 ? "none (a trial)" : "none (a trial cannot be had: %s)", why);
	return 0;
}

/* Where the backend's libraries open files, and what a request names. */
static bool find_places(const struct vac_backend *backend,
			const struct vac_sandbox_request *request, struct places *places)
{
	if (backend->places)
		backend->places(add_place, places);
	for (size_t i = 0; i < request->path_count; i++)
		add_place(places, request->paths[i], VAC_PLACE_READ);
	return !places->full;
}

int vac_sandbox_enter(enum vac_sandbox_mode mode, const struct vac_backend *backend, int socket,
		      char *got, size_t room, struct vac_error *err)
{
	const struct vac_sandbox_profile *profile = vac_sandbox_profile(backend->name);
	struct vac_sandbox_request request = {.kind = VAC_REQUEST_ON};
	struct places *places;
	const char *wrong = NULL;
	char why[96];
	int rc;

	if (mode == VAC_SANDBOX_OFF) {
		snprintf(got, room, "none (switched off)");
		return 0;
	}
	if (VAC_SANITIZED)
		return refuse(mode, got, room, "built with a sanitizer", err);
	if (!profile) {
		snprintf(why, sizeof(why), "there is no profile for backend %.32s", backend->name);
		return refuse(mode, got, room, why, err);
	}
	/* By the environment, before that is reduced. What cannot be read does not switch the
	 * sandbox off. */
	if (profile->calls && mode == VAC_SANDBOX_AUTO &&
	    vac_sandbox_request(getenv("VACATE_GPU_SANDBOX"), &request, &wrong) < 0)
		return vac_fail(err, VAC_E_UNSUPPORTED, "%s", wrong);
	if (request.kind == VAC_REQUEST_OFF)
		return refuse(mode, got, room, "switched off by VACATE_GPU_SANDBOX", err);
	places = calloc(1, sizeof(*places));
	if (!places)
		return vac_fail_nomem(err, "the sandbox's places", sizeof(*places));
	if (!find_places(backend, &request, places)) {
		free_places(places);
		return refuse(mode, got, room, "its places are too many", err);
	}
	limit(RLIMIT_CORE, 0); /* a core would hold models and requests */
	limit(RLIMIT_NOFILE, MAX_DESCRIPTORS);
	close_others(socket);
	reduce_environment();
	if (request.kind == VAC_REQUEST_TRIAL)
		return enter_trial(profile, places, got, room, err);
	rc = enter(mode, profile, &request, places, got, room, err);
	free_places(places);
	return rc;
}
