/*
 * smaps.c - see smaps.h. A mapping is a line "FROM-TO PERMS OFFSET DEV INODE PATH",
 * and lines "Name:  N kB" below it. A path may have anything in it but a line's end,
 * which the kernel writes as \012.
 */
#include "hold/smaps.h"

#include <ctype.h>
#include <string.h>

static const char *const group_names[VAC_SMAPS_GROUPS] = {
	[VAC_SMAPS_ANONYMOUS] = "anonymous", [VAC_SMAPS_HEAP] = "heap",
	[VAC_SMAPS_STACK] = "stack",         [VAC_SMAPS_FILE] = "files",
	[VAC_SMAPS_WEIGHTS] = "weights",     [VAC_SMAPS_SHARED] = "shared",
	[VAC_SMAPS_DRIVER] = "driver",       [VAC_SMAPS_OTHER] = "other",
};

const char *vac_smaps_group_name(enum vac_smaps_group group)
{
	return group_names[group];
}

void vac_smaps_init(struct vac_smaps *smaps)
{
	memset(smaps, 0, sizeof(*smaps));
	smaps->group = smaps->file = -1;
}

static uint64_t add_up(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static const char *hexadecimal(const char *at, const char *end, uint64_t *value)
{
	const char *from = at;
	uint64_t n = 0;

	for (; at < end && at - from < 16 && isxdigit((unsigned char)*at); at++)
		n = n << 4 | (uint64_t)(isdigit((unsigned char)*at)
						? *at - '0'
						: tolower((unsigned char)*at) - 'a' + 10);
	*value = n;
	return at > from ? at : NULL;
}

static bool begins(const char *text, size_t bytes, const char *with)
{
	size_t length = strlen(with);

	return bytes >= length && memcmp(text, with, length) == 0;
}

static bool ends(const char *text, size_t bytes, const char *with)
{
	size_t length = strlen(with);

	return bytes >= length && memcmp(text + bytes - length, with, length) == 0;
}

static bool is_weights(const char *path, size_t bytes)
{
	static const char *const endings[] = {".safetensors", ".gguf", ".ggml", ".bin",
					      ".pt",          ".pth",  ".onnx"};

	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
		if (ends(path, bytes, endings[i]))
			return true;
	return false;
}

static void note_allocator(struct vac_smaps *smaps, const char *path, size_t bytes)
{
	static const struct {
		const char *prefix;
		uint32_t bit;
	} libraries[] = {
		{"libc.so", VAC_ALLOCATOR_GLIBC},        {"libc-2.", VAC_ALLOCATOR_GLIBC},
		{"libjemalloc", VAC_ALLOCATOR_JEMALLOC}, {"libtcmalloc", VAC_ALLOCATOR_TCMALLOC},
		{"libmimalloc", VAC_ALLOCATOR_MIMALLOC}, {"ld-musl-", VAC_ALLOCATOR_MUSL},
		{"libc.musl-", VAC_ALLOCATOR_MUSL},
	};
	const char *slash = memrchr(path, '/', bytes);
	const char *base = slash ? slash + 1 : path;
	size_t base_bytes = bytes - (size_t)(base - path);

	for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++)
		if (begins(base, base_bytes, libraries[i].prefix))
			smaps->allocators |= libraries[i].bit;
}

/* -1: there is no room for another. */
static int find_file(struct vac_smaps *smaps, const char *path, size_t bytes)
{
	if (bytes >= VAC_SMAPS_PATH_BYTES)
		return -1;
	for (uint32_t i = 0; i < smaps->file_count; i++)
		if (strlen(smaps->files[i].path) == bytes &&
		    memcmp(smaps->files[i].path, path, bytes) == 0)
			return (int)i;
	if (smaps->file_count == VAC_SMAPS_MOST_FILES || memchr(path, '\0', bytes))
		return -1;
	memcpy(smaps->files[smaps->file_count].path, path, bytes);
	return (int)smaps->file_count++;
}

static enum vac_smaps_group group_of(const char *path, size_t bytes, bool shared)
{
	static const struct {
		const char *prefix;
		enum vac_smaps_group group;
	} kinds[] = {
		{"/dev/nvidia", VAC_SMAPS_DRIVER},
		{"/dev/shm/", VAC_SMAPS_SHARED},
		{"/memfd:", VAC_SMAPS_SHARED},
		{"/SYSV", VAC_SMAPS_SHARED},
		{"/dev/zero", VAC_SMAPS_SHARED},
		{"/dev/", VAC_SMAPS_OTHER},
		{"[heap]", VAC_SMAPS_HEAP},
		{"[stack", VAC_SMAPS_STACK},
		{"[anon_shmem:", VAC_SMAPS_SHARED},
		{"[anon", VAC_SMAPS_ANONYMOUS},
		{"[", VAC_SMAPS_OTHER},
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (begins(path, bytes, kinds[i].prefix))
			return kinds[i].group;
	if (bytes == 0)
		return shared ? VAC_SMAPS_SHARED : VAC_SMAPS_ANONYMOUS;
	if (path[0] != '/') /* anon_inode:, socket: */
		return VAC_SMAPS_OTHER;
	return is_weights(path, bytes) ? VAC_SMAPS_WEIGHTS : VAC_SMAPS_FILE;
}

static void add_size(struct vac_smaps *smaps, uint64_t bytes)
{
	struct vac_smaps_sum *sum = &smaps->groups[smaps->group];

	sum->mappings++;
	smaps->total.mappings++;
	sum->size_bytes = add_up(sum->size_bytes, bytes);
	smaps->total.size_bytes = add_up(smaps->total.size_bytes, bytes);
	if (smaps->file >= 0)
		smaps->files[smaps->file].size_bytes =
			add_up(smaps->files[smaps->file].size_bytes, bytes);
}

/* false: the line is no mapping. */
static bool take_mapping(struct vac_smaps *smaps, const char *line, const char *end)
{
	static const char deleted[] = " (deleted)";
	uint64_t from, to, ignored;
	const char *at = hexadecimal(line, end, &from), *permissions;
	size_t bytes;

	if (!at || at == end || *at != '-')
		return false;
	at = hexadecimal(at + 1, end, &to);
	if (!at || at == end || *at != ' ' || to < from || end - at < 6)
		return false;
	permissions = at + 1;
	at += 5;
	/* Offset, device, inode. */
	for (int field = 0; field < 3; field++) {
		while (at < end && *at == ' ')
			at++;
		if (at == end || !hexadecimal(at, end, &ignored))
			return false;
		while (at < end && *at != ' ')
			at++;
	}
	while (at < end && *at == ' ')
		at++;
	bytes = (size_t)(end - at);
	if (ends(at, bytes, deleted))
		bytes -= sizeof(deleted) - 1;
	smaps->group = (int)group_of(at, bytes, permissions[3] == 's');
	smaps->file = -1;
	if (smaps->group == VAC_SMAPS_WEIGHTS)
		smaps->file = find_file(smaps, at, bytes);
	if (smaps->group == VAC_SMAPS_FILE)
		note_allocator(smaps, at, bytes);
	add_size(smaps, to - from);
	return true;
}

/* "Name:   123 kB"; false: the line is none of those that count. */
static bool take_kib(const char *line, const char *end, const char *name, uint64_t *bytes)
{
	size_t length = strlen(name);
	uint64_t kib = 0;

	if (!begins(line, (size_t)(end - line), name))
		return false;
	line += length;
	while (line < end && (*line == ' ' || *line == '\t'))
		line++;
	if (line == end || !isdigit((unsigned char)*line))
		return false;
	for (; line < end && isdigit((unsigned char)*line); line++) {
		if (kib > UINT64_MAX / 1024 / 10 - 1)
			return false;
		kib = kib * 10 + (uint64_t)(*line - '0');
	}
	*bytes = kib * 1024;
	return true;
}

static void take_field(struct vac_smaps *smaps, const char *line, const char *end)
{
	struct vac_smaps_sum *sum = &smaps->groups[smaps->group], *total = &smaps->total;
	uint64_t bytes;

	if (take_kib(line, end, "Rss:", &bytes)) {
		sum->rss_bytes = add_up(sum->rss_bytes, bytes);
		total->rss_bytes = add_up(total->rss_bytes, bytes);
		if (smaps->file >= 0)
			smaps->files[smaps->file].rss_bytes =
				add_up(smaps->files[smaps->file].rss_bytes, bytes);
	} else if (take_kib(line, end, "Pss:", &bytes)) {
		sum->pss_bytes = add_up(sum->pss_bytes, bytes);
		total->pss_bytes = add_up(total->pss_bytes, bytes);
	} else if (take_kib(line, end, "Private_Clean:", &bytes) ||
		   take_kib(line, end, "Private_Dirty:", &bytes) ||
		   take_kib(line, end, "Private_Hugetlb:", &bytes)) {
		sum->private_bytes = add_up(sum->private_bytes, bytes);
		total->private_bytes = add_up(total->private_bytes, bytes);
	} else if (take_kib(line, end, "Swap:", &bytes)) {
		sum->swap_bytes = add_up(sum->swap_bytes, bytes);
		total->swap_bytes = add_up(total->swap_bytes, bytes);
	}
}

size_t vac_smaps_take(struct vac_smaps *smaps, const char *text, size_t bytes)
{
	const char *at = text, *end = text + bytes;

	for (;;) {
		const char *stop = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;

		if (!stop)
			return (size_t)(at - text);
		/* Names begin with a capital, addresses are in small letters. */
		if ((*at >= 'A' && *at <= 'Z') || !take_mapping(smaps, at, stop)) {
			if (smaps->group >= 0)
				take_field(smaps, at, stop);
		}
		at = stop + 1;
	}
}
