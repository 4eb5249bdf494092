/*
 * kserve.h - between the files of the KServe family only. Any thread; no state.
 */
#ifndef VAC_API_KSERVE_H
#define VAC_API_KSERVE_H

#include "api/common.h"

/* The names that metadata tells and requests use. */
#define VAC_KSERVE_TEXT    "text"
#define VAC_KSERVE_IDS     "input_ids"
#define VAC_KSERVE_OUTPUT  "embedding"
#define VAC_KSERVE_VERSION "1"

enum vac_tensor_type { VAC_TENSOR_BYTES, VAC_TENSOR_INT32, VAC_TENSOR_INT64 };

/* The one input tensor of a request, as far as it was read. */
struct vac_tensor {
	bool is_text; /* else token ids */
	enum vac_tensor_type type;
	uint64_t shape[2]; /* rows, and elements of one */
	int rank;          /* 1 or 2 */
	bool has_data;     /* in the JSON, between these bytes of the body */
	size_t data_at, data_end;
	bool has_binary; /* behind the JSON, so many bytes */
	uint64_t binary_bytes;
	/* where the values stand, for messages */
	size_t name_at, type_at, shape_at, binary_at;
};

/* POST .../infer into a task (kserve_infer.c). */
int vac_kserve_parse_infer(struct vac_parse *parse);
/* "parameters": an object of scalars; those that the table lacks are ignored. */
int vac_kserve_parameters(struct vac_parse *parse, const char *place,
			  const struct vac_member *members, size_t count) VAC_MUST_CHECK;
/* The data of a tensor whose shape was checked becomes the call's inputs
 * (kserve_data.c). binary: what lies behind the JSON. */
int vac_kserve_json_data(struct vac_parse *parse, const struct vac_tensor *tensor) VAC_MUST_CHECK;
int vac_kserve_binary_data(struct vac_parse *parse, const struct vac_tensor *tensor,
			   const uint8_t *binary) VAC_MUST_CHECK;
/* vac_body_fail() at another byte of the body. */
#define VAC_KSERVE_FAIL_AT(parse, at, ...)                                                         \
	((parse)->json.value_at = (at), vac_body_fail((parse), __VA_ARGS__))

#endif
