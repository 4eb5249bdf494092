/*
 * fuzz_smaps.c - any bytes as /proc/PID/smaps: byte 0 says into which pieces the rest
 * is cut. In pieces and as a whole the sums are the same, and the groups are the total.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hold/smaps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(int truth)
{
	if (!truth)
		abort();
}

static uint64_t add(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static void check_sums(const struct vac_smaps *smaps)
{
	struct vac_smaps_sum sum = {0};

	for (int i = 0; i < VAC_SMAPS_GROUPS; i++) {
		sum.mappings += smaps->groups[i].mappings;
		sum.size_bytes = add(sum.size_bytes, smaps->groups[i].size_bytes);
		sum.rss_bytes = add(sum.rss_bytes, smaps->groups[i].rss_bytes);
		sum.pss_bytes = add(sum.pss_bytes, smaps->groups[i].pss_bytes);
		sum.private_bytes = add(sum.private_bytes, smaps->groups[i].private_bytes);
		sum.swap_bytes = add(sum.swap_bytes, smaps->groups[i].swap_bytes);
	}
	check(memcmp(&sum, &smaps->total, sizeof(sum)) == 0);
	check(smaps->file_count <= VAC_SMAPS_MOST_FILES);
	for (uint32_t i = 0; i < smaps->file_count; i++)
		check(strlen(smaps->files[i].path) < VAC_SMAPS_PATH_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct vac_smaps whole, pieces;
	size_t step = bytes ? data[0] + (size_t)1 : 1, from = 0, to = 0, taken;
	char *text;

	if (bytes == 0)
		return 0;
	bytes--;
	text = malloc(bytes ? bytes : 1);
	check(text != NULL);
	memcpy(text, data + 1, bytes);
	vac_smaps_init(&whole);
	taken = vac_smaps_take(&whole, text, bytes);
	check(taken <= bytes && (taken == 0 || text[taken - 1] == '\n'));
	check_sums(&whole);
	vac_smaps_init(&pieces);
	while (to < bytes) {
		to = bytes - to > step ? to + step : bytes;
		from += vac_smaps_take(&pieces, text + from, to - from);
	}
	check(from == taken);
	check(memcmp(&whole, &pieces, sizeof(whole)) == 0);
	free(text);
	return 0;
}
