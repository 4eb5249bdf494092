/* look.c - see look.h. */
#include "hold/look.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory/meter.h"

#define PIECE_BYTES 65536 /* of smaps, which has megabytes for a large process */
#define WORTH_BYTES ((uint64_t)16 << 20)

/* Feeds smaps piece by piece. 0 or a negative errno. */
static int read_smaps(const char *root, pid_t pid, struct vac_smaps *out)
{
	char path[PATH_MAX], *text;
	size_t used = 0;
	int rc = 0, fd, n = snprintf(path, sizeof(path), "%s/proc/%d/smaps", root, (int)pid);

	vac_smaps_init(out);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	text = malloc(PIECE_BYTES);
	if (!text)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		rc = -errno;
		goto out;
	}
	for (;;) {
		ssize_t got = read(fd, text + used, PIECE_BYTES - used);
		size_t taken;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			rc = -errno;
		if (got <= 0)
			break;
		used += (size_t)got;
		taken = vac_smaps_take(out, text, used);
		/* No line of the kernel is that long: it is passed over. */
		if (taken == 0 && used == PIECE_BYTES)
			taken = used;
		memmove(text, text + taken, used - taken);
		used -= taken;
	}
	close(fd);
out:
	free(text);
	return rc;
}

static void read_command(const char *root, pid_t pid, char out[VAC_LOOK_COMMAND_BYTES])
{
	ssize_t n = vac_proc_text(root, pid, "cmdline", out, VAC_LOOK_COMMAND_BYTES);

	while (n > 0 && out[n - 1] == '\0')
		n--;
	for (ssize_t i = 0; i < n; i++)
		if (out[i] == '\0')
			out[i] = ' ';
	vac_proc_clean(out, VAC_LOOK_COMMAND_BYTES);
}

/* By the process's own eyes: its files may lie in a container. */
static void read_caches(const char *root, pid_t pid, struct vac_look *out)
{
	for (uint32_t i = 0; i < out->smaps.file_count; i++) {
		char path[PATH_MAX];
		int n = snprintf(path, sizeof(path), "%s/proc/%d/root%s", root, (int)pid,
				 out->smaps.files[i].path);

		out->cached_valid[i] = n > 0 && (size_t)n < sizeof(path) &&
				       vac_meter_page_cache(path, &out->cached_bytes[i], NULL) == 0;
	}
}

int vac_look_at(const char *root, pid_t pid, struct vac_look *out, struct vac_error *err)
{
	int rc;

	memset(out, 0, sizeof(*out));
	rc = vac_proc_read(root, pid, &out->proc);
	if (rc == -ENOENT || rc == -ESRCH)
		return vac_fail(err, VAC_E_NOT_FOUND, "there is no process %d", (int)pid);
	if (rc < 0)
		return vac_fail_errno(err, -rc, "process %d cannot be looked at", (int)pid);
	if (out->proc.status.group > 0 && out->proc.status.group != pid)
		return vac_fail(err, VAC_E_NOT_FOUND, "%d is no process, but a thread of %d",
				(int)pid, (int)out->proc.status.group);
	read_command(root, pid, out->command);
	out->smaps_error = -read_smaps(root, pid, &out->smaps);
	if (out->smaps_error == 0)
		read_caches(root, pid, out);
	out->nvidia_error = -vac_proc_nvidia(root, pid, &out->nvidia);
	return 0;
}

const char *vac_allocators_text(uint32_t allocators, char text[64])
{
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {
		{VAC_ALLOCATOR_JEMALLOC, "jemalloc"}, {VAC_ALLOCATOR_TCMALLOC, "tcmalloc"},
		{VAC_ALLOCATOR_MIMALLOC, "mimalloc"}, {VAC_ALLOCATOR_GLIBC, "glibc"},
		{VAC_ALLOCATOR_MUSL, "musl"},
	};
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (allocators & names[i].bit)
			used += (size_t)snprintf(text + used, 64 - used, "%s%s",
						 used ? " and " : "", names[i].name);
	return used ? text : "not known";
}

const char *vac_gpus_text(uint32_t gpus, char text[VAC_GPUS_TEXT_BYTES])
{
	size_t used = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < 32 && used < VAC_GPUS_TEXT_BYTES; i++)
		if (gpus >> i & 1)
			used += (size_t)snprintf(text + used, VAC_GPUS_TEXT_BYTES - used,
						 ", nvidia%u", i);
	return text;
}

/* What frees the allocator's own, the one that stands before the C library first. */
static const char *trim_call(uint32_t allocators)
{
	if (allocators & VAC_ALLOCATOR_JEMALLOC)
		return "mallctl(\"arena.4096.purge\", 0, 0, 0, 0)";
	if (allocators & VAC_ALLOCATOR_TCMALLOC)
		return "MallocExtension_ReleaseFreeMemory()";
	if (allocators & VAC_ALLOCATOR_MIMALLOC)
		return "mi_collect(1)";
	if (allocators & VAC_ALLOCATOR_GLIBC)
		return "malloc_trim(0)";
	return NULL; /* musl gives back what it can by itself */
}

static int compare_remedies(const void *a, const void *b)
{
	const struct vac_remedy *x = a, *y = b;

	if (x->vram != y->vram)
		return x->vram ? -1 : 1;
	return x->bytes > y->bytes ? -1 : x->bytes < y->bytes;
}

size_t vac_look_remedies(const struct vac_look *look, uint64_t vram_bytes, bool parked,
			 struct vac_remedy out[VAC_LOOK_MOST_REMEDIES])
{
	const struct vac_smaps_sum *groups = look->smaps.groups;
	const char *call = trim_call(look->smaps.allocators);
	uint64_t heap =
		groups[VAC_SMAPS_HEAP].private_bytes + groups[VAC_SMAPS_ANONYMOUS].private_bytes;
	uint64_t cached = 0;
	struct vac_remedy *next = out;

	for (uint32_t i = 0; i < look->smaps.file_count; i++)
		cached += look->cached_valid[i] ? look->cached_bytes[i] : 0;
	if (vram_bytes > 0 && !parked) {
		*next = (struct vac_remedy){.bytes = vram_bytes, .vram = true};
		if (strcmp(look->proc.name, "vacate-worker") == 0) {
			snprintf(next->command, sizeof(next->command), "vacate unload MODEL");
			next++->remark = "of the models that `vacate ps` shows on it";
		} else {
			snprintf(next->command, sizeof(next->command), "vacate park %d",
				 (int)look->proc.pid);
			next++->remark = "takes as much RAM, until `vacate resume`";
		}
	}
	if (parked) {
		*next = (struct vac_remedy){.bytes = groups[VAC_SMAPS_ANONYMOUS].private_bytes,
					    .at_most = true};
		snprintf(next->command, sizeof(next->command), "vacate resume %d",
			 (int)look->proc.pid);
		next++->remark = "its VRAM is in RAM until then";
	} else if (heap >= WORTH_BYTES && call) {
		*next = (struct vac_remedy){.bytes = heap, .at_most = true};
		snprintf(next->command, sizeof(next->command), "%s", call);
		next++->remark = "called in the process; what its allocator holds unused";
	}
	if (cached >= WORTH_BYTES) {
		*next = (struct vac_remedy){.bytes = cached, .at_most = true};
		snprintf(next->command, sizeof(next->command), "dd if=FILE iflag=nocache count=0");
		next++->remark = "page cache of its weights, once it has ended";
	}
	qsort(out, (size_t)(next - out), sizeof(*out), compare_remedies);
	return (size_t)(next - out);
}
