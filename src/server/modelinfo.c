/* modelinfo.c - copies a MODEL payload out of its frame. Any thread. */
#include "server/modelinfo.h"

#include <string.h>
#include <sys/stat.h>

static void copy(char *to, size_t room, struct vac_wire_string from)
{
	size_t n = from.bytes < room - 1 ? from.bytes : room - 1;

	memcpy(to, from.text, n);
	to[n] = '\0';
}

void vac_model_refused(const char *dir, struct vac_error *refusal)
{
	struct stat st;

	if (refusal->code == VAC_E_INVALID ||
	    (refusal->code == VAC_E_NOT_FOUND && stat(dir, &st) == 0))
		refusal->code = VAC_E_CORRUPT;
}

void vac_model_info_copy(struct vac_model_info *to, const struct vac_wire_model *from)
{
	*to = (struct vac_model_info){
		.plan = from->plan,
		.normalize = from->normalize,
		.parameters = from->parameters,
		.hidden_size = from->hidden_size,
		.layers = from->layers,
		.heads = from->heads,
		.vocab_size = from->vocab_size,
		.embedding_dimensions = from->embedding_dimensions,
		.max_tokens = from->max_tokens,
		.ledger_bytes = from->ledger_bytes,
	};
	copy(to->architecture, sizeof(to->architecture), from->architecture);
	copy(to->dtype, sizeof(to->dtype), from->dtype);
	copy(to->pooling, sizeof(to->pooling), from->pooling);
	memcpy(to->stage_ns, from->stage_ns, sizeof(to->stage_ns));
}
