/*
 * fields.h - the fields of a frame, written and read one after the other: what
 * the encoders and decoders of src/wire are made of, and nobody else includes.
 * No state; any thread.
 */
#ifndef VAC_WIRE_FIELDS_H
#define VAC_WIRE_FIELDS_H

#include <assert.h>
#include <string.h>

#include "wire/wire.h"

static inline void put_u8(struct vac_buf *buf, uint8_t value)
{
	vac_buf_put(buf, &value, 1);
}

static inline void put_u16(struct vac_buf *buf, uint16_t value)
{
	uint8_t b[2] = {(uint8_t)value, (uint8_t)(value >> 8)};

	vac_buf_put(buf, b, sizeof(b));
}

static inline void put_u32(struct vac_buf *buf, uint32_t value)
{
	uint8_t b[4];

	for (int i = 0; i < 4; i++)
		b[i] = (uint8_t)(value >> (8 * i));
	vac_buf_put(buf, b, sizeof(b));
}

static inline void put_u64(struct vac_buf *buf, uint64_t value)
{
	put_u32(buf, (uint32_t)value);
	put_u32(buf, (uint32_t)(value >> 32));
}

static inline void put_string(struct vac_buf *buf, struct vac_wire_string s)
{
	put_u32(buf, s.bytes);
	vac_buf_put(buf, s.text, s.bytes);
}

static inline void put_text(struct vac_buf *buf, const char *text)
{
	put_string(buf, (struct vac_wire_string){text, (uint32_t)strlen(text)});
}

/* A frame's length is known only when its payload is written: begin leaves
 * room for it, end fills it in. */
static inline size_t begin(struct vac_buf *buf, enum vac_wire_type type, uint64_t id)
{
	size_t at = buf->bytes;

	put_u32(buf, 0);
	put_u16(buf, (uint16_t)type);
	put_u16(buf, 0);
	put_u64(buf, id);
	return at;
}

static inline void end(struct vac_buf *buf, size_t at)
{
	size_t payload;

	if (!vac_buf_ok(buf))
		return;
	assert(buf->bytes >= at + VAC_WIRE_HEADER_BYTES);
	while (vac_buf_ok(buf) && (buf->bytes - at) % VAC_WIRE_ALIGN != 0)
		put_u8(buf, 0);
	if (!vac_buf_ok(buf))
		return;
	payload = buf->bytes - at - VAC_WIRE_HEADER_BYTES;
	if (payload > VAC_WIRE_MAX_PAYLOAD_BYTES) {
		buf->failed = true;
		return;
	}
	for (int i = 0; i < 4; i++)
		buf->data[at + (size_t)i] = (uint8_t)(payload >> (8 * i));
}

static inline void put_error(struct vac_buf *buf, const struct vac_error *error)
{
	put_u32(buf, (uint32_t)error->code);
	put_text(buf, error->message);
	put_text(buf, error->detail);
}

/* A cursor that fails once and stays failed; field names the first failure. */
struct reader {
	const uint8_t *data;
	size_t bytes, at;
	const char *bad; /* name of the field that did not fit, NULL: none yet */
};

static inline const uint8_t *take(struct reader *r, size_t bytes, const char *field)
{
	const uint8_t *from = r->data + r->at;

	if (r->bad)
		return NULL;
	if (bytes > r->bytes - r->at) {
		r->bad = field;
		return NULL;
	}
	r->at += bytes;
	return from;
}

static inline uint64_t get_uint(struct reader *r, size_t width, const char *field)
{
	const uint8_t *b = take(r, width, field);
	uint64_t value = 0;

	if (!b)
		return 0;
	for (size_t i = 0; i < width; i++)
		value |= (uint64_t)b[i] << (8 * i);
	return value;
}

static inline uint32_t get_u32(struct reader *r, const char *field)
{
	return (uint32_t)get_uint(r, 4, field);
}

static inline uint64_t get_u64(struct reader *r, const char *field)
{
	return get_uint(r, 8, field);
}

/* A duration or time: negative ones do not exist here. */
static inline int64_t get_ns(struct reader *r, const char *field)
{
	uint64_t value = get_u64(r, field);

	if (value > INT64_MAX && !r->bad)
		r->bad = field;
	return r->bad ? 0 : (int64_t)value;
}

static inline bool get_bool(struct reader *r, const char *field)
{
	uint64_t value = get_uint(r, 1, field);

	if (value > 1 && !r->bad)
		r->bad = field;
	return value == 1;
}

static inline uint32_t get_enum(struct reader *r, uint32_t least, uint32_t most, const char *field)
{
	uint32_t value = (uint32_t)get_uint(r, 1, field);

	if ((value < least || value > most) && !r->bad)
		r->bad = field;
	return r->bad ? least : value;
}

static inline struct vac_wire_string get_string(struct reader *r, size_t most, const char *field)
{
	struct vac_wire_string s = {"", 0};
	uint32_t bytes = get_u32(r, field);
	const uint8_t *text;

	if (!r->bad && bytes > most)
		r->bad = field;
	text = take(r, bytes, field);
	if (text) {
		s.text = (const char *)text;
		s.bytes = bytes;
	}
	return s;
}

/* Into an array of chars: what does not fit is left out. */
static inline void copy_text(char *to, size_t capacity, struct vac_wire_string s)
{
	size_t n = s.bytes < capacity - 1 ? s.bytes : capacity - 1;

	memcpy(to, s.text, n);
	to[n] = '\0';
}

/* A code of a later version is still an error, of a kind not known here. */
static inline void get_error(struct reader *r, struct vac_error *out)
{
	struct vac_wire_string message, detail;
	uint32_t code = get_u32(r, "code");

	memset(out, 0, sizeof(*out));
	out->code = (enum vac_error_code)(code > VAC_E_INTERNAL ? VAC_E_INTERNAL : code);
	message = get_string(r, VAC_WIRE_MAX_PAYLOAD_BYTES, "message");
	detail = get_string(r, VAC_WIRE_MAX_PAYLOAD_BYTES, "detail");
	copy_text(out->message, sizeof(out->message), message);
	copy_text(out->detail, sizeof(out->detail), detail);
}

static inline int finish(struct reader *r, const char *frame, struct vac_error *err)
{
	if (r->bad)
		return vac_fail(err, VAC_E_INVALID,
				"wire: %s frame of %zu bytes: field '%s' near byte %zu is cut "
				"short or out of range",
				frame, r->bytes, r->bad, r->at);
	/* Zero bytes up to the alignment close every payload. */
	while (r->at < r->bytes && r->bytes - r->at < VAC_WIRE_ALIGN && r->data[r->at] == 0)
		r->at++;
	if (r->at != r->bytes)
		return vac_fail(err, VAC_E_INVALID,
				"wire: %s frame has %zu bytes where its fields end at byte %zu",
				frame, r->bytes, r->at);
	return 0;
}

#endif
