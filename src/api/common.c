/*
 * common.c - replies that are the same in several API families. Any thread; no
 * state.
 */
#include "api/common.h"

int vac_render_nothing(struct vac_render *out)
{
	(void)out;
	return 0;
}

int vac_render_version(struct vac_render *out)
{
	vac_buf_puts(out->body, "{\"version\":\"" VAC_VERSION "\"}");
	return 0;
}

void vac_put_rows(struct vac_buf *buf, const struct vac_outcome *outcome)
{
	vac_buf_putc(buf, '[');
	for (uint32_t row = 0; row < outcome->rows; row++) {
		if (row > 0)
			vac_buf_putc(buf, ',');
		vac_put_floats(buf, outcome->vectors + row * (size_t)outcome->dimensions,
			       outcome->dimensions);
	}
	vac_buf_putc(buf, ']');
}

void vac_error_plain(const struct vac_api_failure *failure, struct vac_buf *body)
{
	vac_buf_puts(body, "{\"error\":");
	vac_put_text(body, failure->error->message);
	vac_buf_putc(body, '}');
}

int vac_status_long_text(const struct vac_api_failure *failure)
{
	if (failure->stage == VAC_STAGE_OUTCOME && failure->error->code == VAC_E_TOO_LARGE)
		return 400;
	return failure->status;
}
