/*
 * fuzz_safetensors.c - headers of safetensors files and shard indexes.
 *
 * Byte 0 chooses: even, a header; odd, an index. For a header, bytes 1 to 4
 * (little-endian) say how many bytes of tensors lie behind what follows.
 */
#include <stdlib.h>
#include <string.h>

#include "format/safetensors_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* What a caller relies on when a header was accepted. */
static void check(const struct vac_safetensors *st, size_t header_end, uint64_t file_bytes)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < st->tensor_count; i++) {
		const struct vac_tensor *tensor = &st->tensors[i];
		uint64_t need = vac_dtype_bytes(tensor->dtype);

		must(i == 0 || strcmp(st->tensors[i - 1].name, tensor->name) < 0);
		must(vac_safetensors_find(st, tensor->name) == tensor);
		must(tensor->dims <= VAC_TENSOR_MAX_DIMS);
		for (uint32_t k = 0; k < tensor->dims; k++)
			need *= tensor->shape[k];
		must(need == tensor->bytes);
		must(tensor->offset >= header_end && tensor->offset <= file_bytes &&
		     tensor->bytes <= file_bytes - tensor->offset);
		sum += tensor->bytes;
	}
	must(sum == st->tensor_bytes && header_end + sum == file_bytes);
}

static void fuzz_header(const uint8_t *data, size_t bytes)
{
	struct vac_safetensors st;
	struct vac_error err = {0};
	uint64_t behind, length;
	int rc;

	if (bytes < 4)
		return;
	behind = data[0] | data[1] << 8 | data[2] << 16 | (uint64_t)data[3] << 24;
	data += 4;
	bytes -= 4;
	rc = vac_safetensors_parse(data, bytes, bytes + behind, "fuzz", &st, &err);
	must((rc == 0) == (err.code == VAC_OK));
	if (rc != 0) {
		must(st.arena == NULL && err.message[0] != '\0');
		return;
	}
	memcpy(&length, data, sizeof(length));
	check(&st, 8 + (size_t)length, bytes + behind);
	vac_safetensors_close(&st);
}

static void fuzz_index(const uint8_t *data, size_t bytes)
{
	struct shard_index index = {0};
	struct vac_error err = {0};
	int rc = vac_shard_index_parse(&index, data, bytes, "fuzz", &err);

	must((rc == 0) == (err.code == VAC_OK));
	for (size_t i = 0; rc == 0 && i < index.entries.count; i++) {
		const struct shard_entry *entry = index.entries.items[i];

		must(!strchr(entry->shard->name, '/') && !strstr(entry->shard->name, ".."));
	}
	vac_shard_index_free(&index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	if (bytes < 1)
		return 0;
	if (data[0] & 1)
		fuzz_index(data + 1, bytes - 1);
	else
		fuzz_header(data + 1, bytes - 1);
	return 0;
}
