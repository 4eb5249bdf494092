/*
 * write.h - JSON written straight into a buffer, without a tree: replies are
 * up to megabytes of numbers. What cannot be appended marks the buffer failed
 * (base/buf.h); callers look once, at the end. Any thread; no state.
 */
#ifndef VAC_API_WRITE_H
#define VAC_API_WRITE_H

#include "api/api.h"

/* A quoted string. Bytes that are not UTF-8 become U+FFFD, so that a reply is
 * JSON whatever a message quotes. */
void vac_put_string(struct vac_buf *buf, const char *text, size_t bytes);
/* The same for a NUL-terminated string; NULL becomes null. */
void vac_put_text(struct vac_buf *buf, const char *text);
void vac_put_u64(struct vac_buf *buf, uint64_t value);
void vac_put_i64(struct vac_buf *buf, int64_t value);
void vac_put_bool(struct vac_buf *buf, bool value);
/* Nanoseconds as milliseconds with three decimals: 12.345 */
void vac_put_ms(struct vac_buf *buf, int64_t ns);
/* Nanoseconds since 1970 as "2026-01-31T12:00:00.123Z". */
void vac_put_time(struct vac_buf *buf, int64_t wall_ns);

/* [0.25,-1.5e-7,...] */
void vac_put_floats(struct vac_buf *buf, const float *values, size_t count);
/* Without quotes. */
void vac_put_base64(struct vac_buf *buf, const void *data, size_t bytes);
void vac_put_base64_floats(struct vac_buf *buf, const float *values, size_t count);

/* Native shapes, docs/api.md. */
void vac_put_model(struct vac_buf *buf, const struct vac_model_view *model);
void vac_put_aliases(struct vac_buf *buf, const struct vac_model_view *model); /* ["..."] */
void vac_put_models(struct vac_buf *buf, const struct vac_outcome *outcome);
void vac_put_usage(struct vac_buf *buf, const struct vac_usage *usage); /* NULL: null */
void vac_put_ps(struct vac_buf *buf, const struct vac_outcome *outcome);
/* What the worker of models went through; as `vacate park --json` has it of processes. */
void vac_put_held(struct vac_buf *buf, bool park, const struct vac_outcome *outcome);
void vac_put_receipts(struct vac_buf *buf, const struct vac_outcome *outcome);

#endif
