/*
 * test_safetensors.c - headers, files and sharded checkpoints. Headers are
 * written out here, so that what is expected does not come from our reader. In
 * the table a '^' in a header marks the byte that the message must name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "fail_alloc.h"
#include "format/safetensors.h"
#include "temp_dir.h"

static int setup(void **state)
{
	(void)state;
	temp_dir_make();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

/* Length field, header and data_bytes bytes of data; the caller frees. */
static uint8_t *make_file(const char *header, size_t header_bytes, size_t data_bytes, size_t *bytes)
{
	uint8_t *file = calloc(1, 8 + header_bytes + data_bytes + 1);
	uint64_t length = header_bytes;

	for (unsigned i = 0; i < 8; i++)
		file[i] = (uint8_t)(length >> (8 * i));
	memcpy(file + 8, header, header_bytes);
	*bytes = 8 + header_bytes + data_bytes;
	return file;
}

static void write_tensors(const char *name, const char *header, size_t data_bytes)
{
	size_t bytes;
	uint8_t *file = make_file(header, strlen(header), data_bytes, &bytes);

	temp_write(name, file, bytes);
	free(file);
}

static int parse(const char *header, size_t data_bytes, struct vac_safetensors *st,
		 struct vac_error *err)
{
	size_t bytes;
	uint8_t *file = make_file(header, strlen(header), data_bytes, &bytes);
	int rc = vac_safetensors_parse(file, 8 + strlen(header), bytes, "PATH", st, err);

	free(file);
	return rc;
}

static void test_good(void **state)
{
	static const char header[] =
		"{\"__metadata__\":{\"format\":\"pt\"},"
		"\"z\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
		"\"a\\u0062\":{\"data_offsets\":[24,26],\"extra\":[{}],\"shape\":[],"
		"\"dtype\":\"BF16\"},"
		"\"\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[26,26]},"
		"\"b\":{\"dtype\":\"F8_E4M3\",\"shape\":[1,1,1,1,1,1,1,2],"
		"\"data_offsets\":[26,28]}}   \n\t ";
	struct vac_safetensors st;
	struct vac_error err = {0};
	const struct vac_tensor *tensor;

	(void)state;
	if (parse(header, 28, &st, &err) != 0)
		fail_msg("%s", err.message);
	assert_int_equal(st.tensor_count, 4);
	assert_int_equal(st.tensor_bytes, 28);
	assert_string_equal(st.tensors[0].name, "");
	assert_string_equal(st.tensors[3].name, "z");
	tensor = vac_safetensors_find(&st, "ab");
	assert_non_null(tensor);
	assert_int_equal(tensor->dtype, VAC_DTYPE_BF16);
	assert_int_equal(tensor->dims, 0);
	assert_int_equal(tensor->offset, 8 + strlen(header) + 24);
	assert_int_equal(tensor->bytes, 2);
	tensor = vac_safetensors_find(&st, "z");
	assert_non_null(tensor);
	assert_int_equal(tensor->dims, 2);
	assert_int_equal(tensor->shape[0], 2);
	assert_int_equal(tensor->shape[1], 3);
	assert_int_equal(tensor->offset, 8 + strlen(header));
	tensor = vac_safetensors_find(&st, "");
	assert_non_null(tensor);
	assert_int_equal(tensor->bytes, 0);
	tensor = vac_safetensors_find(&st, "b");
	assert_non_null(tensor);
	assert_int_equal(tensor->dims, 8);
	assert_null(vac_safetensors_find(&st, "y"));
	assert_null(vac_safetensors_find(&st, "zz"));
	vac_safetensors_close(&st);
	assert_null(vac_safetensors_find(&st, "z"));
	vac_safetensors_close(&st);
	vac_safetensors_close(NULL);
	/* A file of no tensors is one. */
	assert_int_equal(parse("{}", 0, &st, &err), 0);
	assert_int_equal(st.tensor_count, 0);
	vac_safetensors_close(&st);
	assert_int_equal(parse("{\"__metadata__\":null}", 0, &st, &err), 0);
	vac_safetensors_close(&st);
}

static void test_dtypes(void **state)
{
	static const struct {
		const char *name;
		size_t bytes;
	} dtypes[] = {{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F64", 8},     {"I64", 8},
		      {"I32", 4}, {"I16", 2}, {"I8", 1},   {"U64", 8},     {"U32", 4},
		      {"U16", 2}, {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};

	(void)state;
	for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
		struct vac_safetensors st;
		struct vac_error err = {0};
		char header[128];

		snprintf(header, sizeof(header),
			 "{\"x\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}",
			 dtypes[i].name, dtypes[i].bytes * 3);
		assert_int_equal(parse(header, dtypes[i].bytes * 3, &st, &err), 0);
		assert_string_equal(vac_dtype_name(st.tensors[0].dtype), dtypes[i].name);
		assert_int_equal(vac_dtype_bytes(st.tensors[0].dtype), dtypes[i].bytes);
		vac_safetensors_close(&st);
	}
	assert_int_equal(vac_dtype_bytes((enum vac_dtype)99), 0);
	assert_string_equal(vac_dtype_name((enum vac_dtype)99), "unknown");
}

#define T(name, rest)   "\"" name "\":{" rest "}"
#define U8(begin, end)  "\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[" #begin "," #end "]"
#define SHAPE(dtype, s) "\"dtype\":\"" dtype "\",\"shape\":[" s "],\"data_offsets\":[0,4]"

static const struct {
	const char *header;
	size_t data_bytes;
	enum vac_error_code code;
	const char *part;
} bad_headers[] = {
	/* not a JSON object that begins at once */
	{"^", 0, VAC_E_CORRUPT, "does not start with '{'"},
	{"^ {}", 0, VAC_E_CORRUPT, "does not start with '{'"},
	{"^\n{}", 0, VAC_E_CORRUPT, "does not start with '{'"},
	{"^\xef\xbb\xbf{}", 0, VAC_E_CORRUPT, "does not start with '{'"},
	{"^[]", 0, VAC_E_CORRUPT, "does not start with '{'"},
	{"^null", 0, VAC_E_CORRUPT, "does not start with '{'"},
	{"{^", 0, VAC_E_CORRUPT, "ends"},
	{"{}^{}", 0, VAC_E_CORRUPT, ""},
	{"{}^x", 0, VAC_E_CORRUPT, ""},
	{"{" T("x", U8(0, 4)) ",^}", 4, VAC_E_CORRUPT, ""},
	{"{\"a^\xff\":1}", 0, VAC_E_CORRUPT, "UTF-8"},
	{"{\"a^\xed\xa0\x80\":1}", 0, VAC_E_CORRUPT, "UTF-8"},
	/* names */
	{"{" T("x", U8(0, 4)) ",^" T("x", U8(4, 8)) "}", 8, VAC_E_CORRUPT, "\"x\": this name"},
	{"{" T("x", U8(0, 4)) ",^" T("\\u0078", U8(0, 4)) "}", 4, VAC_E_CORRUPT, "twice"},
	{"{^" T("a\\u0000b", U8(0, 4)) "}", 4, VAC_E_CORRUPT, "U+0000"},
	{"{\"x\":{\"dtype\":\"U8\",^\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
	 VAC_E_CORRUPT, "\"dtype\" is there twice"},
	{"{\"x\":{\"shape\":[4],\"dtype\":\"U8\",^\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
	 VAC_E_CORRUPT, "\"shape\" is there twice"},
	{"{\"x\":{\"data_offsets\":[0,4],\"dtype\":\"U8\",\"shape\":[4],^\"data_offsets\":[0,4]}}",
	 4, VAC_E_CORRUPT, "\"data_offsets\" is there twice"},
	/* missing and of a wrong type */
	{"{^\"x\":{\"shape\":[4],\"data_offsets\":[0,4]}}", 4, VAC_E_CORRUPT, "dtype is missing"},
	{"{^\"x\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 4, VAC_E_CORRUPT,
	 "shape is missing"},
	{"{^\"x\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, VAC_E_CORRUPT, "data_offsets is missing"},
	{"{^\"x\":{}}", 0, VAC_E_CORRUPT, "dtype is missing"},
	{"{\"x\":^[\"U8\",[4],[0,4]]}", 4, VAC_E_CORRUPT, "an object"},
	{"{\"x\":^null}", 0, VAC_E_CORRUPT, "an object"},
	{"{\"x\":{\"dtype\":^8,\"shape\":[4],\"data_offsets\":[0,4]}}", 4, VAC_E_CORRUPT,
	 "a string"},
	{"{\"x\":{\"dtype\":\"U8\",\"shape\":^4,\"data_offsets\":[0,4]}}", 4, VAC_E_CORRUPT,
	 "an array"},
	{"{\"x\":{\"dtype\":\"U8\",\"shape\":[^\"4\"],\"data_offsets\":[0,4]}}", 4, VAC_E_CORRUPT,
	 "shape holds"},
	{"{\"x\":{\"dtype\":\"U8\",\"shape\":[^4.0],\"data_offsets\":[0,4]}}", 4, VAC_E_CORRUPT,
	 "shape holds"},
	{"{\"x\":{\"dtype\":\"U8\",\"shape\":[^-4],\"data_offsets\":[0,4]}}", 4, VAC_E_CORRUPT,
	 "shape holds a negative number"},
	{"{\"x\":{\"dtype\":\"U8\",\"shape\":[^-0],\"data_offsets\":[0,0]}}", 0, VAC_E_CORRUPT,
	 "shape holds a negative number"},
	{"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[^-4,0]}}", 4, VAC_E_CORRUPT,
	 "data_offsets holds a negative number"},
	{"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0^]}}", 4, VAC_E_CORRUPT,
	 "data_offsets has 1 number"},
	{"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,^4]}}", 4, VAC_E_CORRUPT,
	 "data_offsets has more than 2"},
	{"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,^18446744073709551616]}}", 4,
	 VAC_E_CORRUPT, "63 bits"},
	{"{\"x\":{\"dtype\":^\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", 2, VAC_E_UNSUPPORTED,
	 "\"F4\""},
	{"{\"x\":{\"dtype\":^\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, VAC_E_UNSUPPORTED,
	 "\"f32\""},
	{"{\"x\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,^1],\"data_offsets\":[0,1]}}", 1,
	 VAC_E_UNSUPPORTED, "more than 8"},
	/* shape, dtype and range */
	{"{^" T("x", U8(0, 5)) "}", 5, VAC_E_CORRUPT, "need 4 bytes where data_offsets span 5"},
	{"{^" T("x", U8(4, 0)) "}", 4, VAC_E_CORRUPT, "begin at 4, after their end at 0"},
	{"{^" T("x", SHAPE("U8", "4294967296,4294967296")) "}", 4, VAC_E_CORRUPT, "64 bits"},
	{"{^" T("x", SHAPE("U8", "4294967296,4294967296,0")) "}", 4, VAC_E_CORRUPT, "64 bits"},
	{"{^" T("x", SHAPE("F64", "4611686018427387904")) "}", 4, VAC_E_CORRUPT, "64 bits"},
	/* the wrapped product is 4, the range's length */
	{"{^" T("x", SHAPE("F32", "4611686018427387905")) "}", 4, VAC_E_CORRUPT, "64 bits"},
	/* __metadata__ */
	{"{\"__metadata__\":^[]}", 0, VAC_E_CORRUPT, "__metadata__ is not an object"},
	{"{\"__metadata__\":^\"x\"}", 0, VAC_E_CORRUPT, "__metadata__ is not an object"},
	{"{\"__metadata__\":{\"a\":^1}}", 0, VAC_E_CORRUPT, "not a string"},
	{"{\"__metadata__\":{\"a\":^null}}", 0, VAC_E_CORRUPT, "not a string"},
	{"{\"__metadata__\":{\"a\":^{}}}", 0, VAC_E_CORRUPT, "not a string"},
	{"{\"__metadata__\":{},^\"__metadata__\":{}}", 0, VAC_E_CORRUPT, "twice"},
	{"{\"__metadata__\":{\"b\":\"\",\"a\":\"\",^\"b\":\"\"}}", 0, VAC_E_CORRUPT, "\"b\" twice"},
};

static void test_bad_headers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_headers) / sizeof(bad_headers[0]); i++) {
		const char *marked = bad_headers[i].header, *mark = strchr(marked, '^');
		char header[512], position[64];
		struct vac_safetensors st;
		struct vac_error err = {0};

		assert_non_null(mark);
		snprintf(header, sizeof(header), "%.*s%s", (int)(mark - marked), marked, mark + 1);
		snprintf(position, sizeof(position), ": byte %d: ", (int)(mark - marked));
		if (parse(header, bad_headers[i].data_bytes, &st, &err) !=
			    vac_error_errno(bad_headers[i].code) ||
		    err.code != bad_headers[i].code)
			fail_msg("%s: code %d: %s", marked, err.code, err.message);
		if (strncmp(err.message, "PATH: header", 12) != 0 ||
		    !strstr(err.message, position) || !strstr(err.message, bad_headers[i].part))
			fail_msg("%s: wanted \"%s\" and \"%s\" in: %s", marked, position,
				 bad_headers[i].part, err.message);
		assert_null(st.arena);
	}
}

/* What is wrong behind the header; positions count from the start of the file,
 * "%zu" standing for where the data begins plus the number given. */
static void test_bad_coverage(void **state)
{
	static const struct {
		const char *header;
		size_t data_bytes;
		const char *part;
		size_t at;
	} cases[] = {
		{"{" T("a", U8(0, 4)) "," T("b", U8(2, 6)) "}", 6,
		 "tensor \"b\" at byte %zu overlaps tensor \"a\"", 2},
		{"{" T("b", U8(0, 4)) "," T("a", U8(0, 4)) "}", 4, "overlaps tensor", 0},
		{"{" T("a", U8(0, 4)) "," T("b", U8(6, 10)) "}", 10, "bytes %zu to ", 4},
		{"{" T("a", U8(4, 8)) "}", 8, "before tensor \"a\"", 0},
		{"{" T("a", U8(0, 4)) "}", 5, "ends at byte %zu, and the 1 bytes behind", 4},
		{"{}", 1, "ends at byte %zu, and the 1 bytes behind", 0},
		{"{" T("a", U8(0, 4)) "," T("b", U8(4, 8)) "}", 7,
		 "tensor \"b\" reaches to byte %zu", 8},
		{"{" T("a", U8(0, 4)) "," T("b", U8(4, 8)) "}", 0,
		 "tensor \"a\" reaches to byte %zu", 4},
		/* an empty tensor inside another one's bytes */
		{"{" T("a", U8(0, 4)) "," T("b", "\"dtype\":\"U8\",\"shape\":[0],"
						 "\"data_offsets\":[2,2]") "}",
		 4, "tensor \"b\" at byte %zu overlaps", 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_safetensors st;
		struct vac_error err = {0};
		char part[256];

		snprintf(part, sizeof(part), cases[i].part,
			 8 + strlen(cases[i].header) + cases[i].at);
		assert_int_equal(parse(cases[i].header, cases[i].data_bytes, &st, &err),
				 vac_error_errno(VAC_E_CORRUPT));
		if (!strstr(err.message, part) || strncmp(err.message, "PATH: ", 6) != 0)
			fail_msg("%s: wanted \"%s\" in: %s", cases[i].header, part, err.message);
	}
}

static void expect_open(const char *name, bool dir, enum vac_error_code code, const char *part)
{
	const char *path = temp_path(name);
	struct vac_safetensors st;
	struct vac_error err = {0};
	int fds = count_fds();
	int rc = dir ? vac_safetensors_open_dir(path, &st, &err)
		     : vac_safetensors_open_file(path, &st, &err);

	if (rc != vac_error_errno(code) || err.code != code || !strstr(err.message, part))
		fail_msg("%s: wanted code %d and \"%s\", got %d: %s", name, code, part, err.code,
			 err.message);
	assert_null(st.arena);
	assert_null(st.tensors);
	assert_int_equal(count_fds(), fds);
}

static void test_length_field(void **state)
{
	static const uint8_t huge[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	static const uint8_t wrap[16] = {0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'};
	/* 100,000,001 bytes: one more than the format allows */
	static const uint8_t large[16] = {0x01, 0xe1, 0xf5, 0x05};
	/* 100,000,000 bytes: allowed, but not there */
	static const uint8_t at_limit[16] = {0x00, 0xe1, 0xf5, 0x05};
	static const uint8_t beyond[11] = {4, 0, 0, 0, 0, 0, 0, 0, '{', '}', ' '};
	struct vac_safetensors st;
	struct vac_error err = {0};

	(void)state;
	temp_write("empty", "", 0);
	expect_open("empty", false, VAC_E_CORRUPT, "has 0 bytes");
	temp_write("seven", huge, 7);
	expect_open("seven", false, VAC_E_CORRUPT, "has 7 bytes");
	temp_write("huge", huge, 8);
	expect_open("huge", false, VAC_E_CORRUPT, "18446744073709551615 bytes where at most");
	temp_write("wrap", wrap, 16);
	expect_open("wrap", false, VAC_E_CORRUPT, "18446744073709551608 bytes where at most");
	temp_write("large", large, 16);
	expect_open("large", false, VAC_E_CORRUPT, "100000001 bytes where at most 100000000");
	assert_int_equal(truncate(temp_path("large"), 200000000), 0);
	expect_open("large", false, VAC_E_CORRUPT, "100000001 bytes where at most 100000000");
	temp_write("at_limit", at_limit, 16);
	expect_open("at_limit", false, VAC_E_CORRUPT,
		    "end at byte 100000008, but the file ends at byte 16");
	temp_write("beyond", beyond, 11);
	expect_open("beyond", false, VAC_E_CORRUPT, "end at byte 12, but the file ends at byte 11");
	/* Fewer bytes handed in than the header has is the caller's mistake. */
	assert_int_equal(vac_safetensors_parse(beyond, 11, 12, "PATH", &st, &err),
			 vac_error_errno(VAC_E_INVALID));
	assert_non_null(strstr(err.message, "first 12 bytes are needed, not 11"));
	assert_int_equal(vac_safetensors_parse(beyond, 7, 12, "PATH", &st, &err),
			 vac_error_errno(VAC_E_INVALID));
}

static void test_open_file(void **state)
{
	struct vac_safetensors st;
	struct vac_error err = {0};
	struct stat status;
	uint8_t byte;
	int fds = count_fds();

	(void)state;
	write_tensors("one", "{" T("x", U8(0, 4)) "}", 4);
	assert_int_equal(stat(temp_path("one"), &status), 0);
	temp_symlink("one", "link");
	assert_int_equal(vac_safetensors_open_file(temp_path("link"), &st, &err), 0);
	assert_int_equal(st.file_count, 1);
	assert_string_equal(st.files[0].path, temp_path("link"));
	assert_int_equal(st.files[0].bytes, (uint64_t)status.st_size);
	assert_int_equal(st.files[0].ino, status.st_ino);
	assert_int_equal(st.files[0].dev, status.st_dev);
	assert_int_equal(st.files[0].mtime_ns,
			 status.st_mtim.tv_sec * INT64_C(1000000000) + status.st_mtim.tv_nsec);
	assert_int_equal(st.tensors[0].file, 0);
	/* A file that is replaced on disk stays readable as it was. */
	temp_unlink("one");
	assert_int_equal(pread(st.files[0].fd, &byte, 1, (off_t)st.tensors[0].offset), 1);
	assert_int_equal(count_fds(), fds + 1);
	vac_safetensors_close(&st);
	assert_int_equal(count_fds(), fds);
	expect_open("one", false, VAC_E_NOT_FOUND, "one: cannot open");
	temp_mkdir("dir");
	expect_open("dir", false, VAC_E_INVALID, "not a regular file");
}

#define INDEX    "m/model.safetensors.index.json"
#define MAP(map) "{\"metadata\":{\"total_size\":8},\"weight_map\":{" map "}}"

static void test_shards(void **state)
{
	struct vac_safetensors st;
	struct vac_error err = {0};
	const struct vac_tensor *tensor;
	int fds = count_fds();

	(void)state;
	write_tensors("m/one.safetensors", "{" T("c", U8(0, 4)) "," T("a", U8(4, 8)) "}", 8);
	write_tensors("m/two.safetensors", "{" T("b", U8(0, 4)) "}  ", 4);
	temp_text(INDEX, MAP("\"a\":\"one.safetensors\",\"b\":\"two.safetensors\","
			     "\"c\":\"one.safetensors\""));
	if (vac_safetensors_open_dir(temp_path("m"), &st, &err) != 0)
		fail_msg("%s", err.message);
	assert_int_equal(st.file_count, 2);
	assert_int_equal(st.tensor_count, 3);
	assert_int_equal(st.tensor_bytes, 12);
	assert_int_equal(count_fds(), fds + 2);
	tensor = vac_safetensors_find(&st, "b");
	assert_string_equal(st.files[tensor->file].path, temp_path("m/two.safetensors"));
	tensor = vac_safetensors_find(&st, "c");
	assert_string_equal(st.files[tensor->file].path, temp_path("m/one.safetensors"));
	vac_safetensors_close(&st);
	assert_int_equal(count_fds(), fds);
	/* One file beside an index: the file is taken, as transformers does. */
	write_tensors("m/model.safetensors", "{" T("x", U8(0, 4)) "}", 4);
	assert_int_equal(vac_safetensors_open_dir(temp_path("m"), &st, &err), 0);
	assert_int_equal(st.tensor_count, 1);
	vac_safetensors_close(&st);
}

static void test_bad_shards(void **state)
{
	static const struct {
		const char *index;
		enum vac_error_code code;
		const char *part;
	} cases[] = {
		{MAP("\"a\":\"one.safetensors\",\"b\":\"two.safetensors\""), VAC_E_CORRUPT,
		 "one.safetensors: holds tensor \"c\", which weight_map"},
		{MAP("\"a\":\"one.safetensors\",\"b\":\"two.safetensors\","
		     "\"c\":\"one.safetensors\",\"d\":\"two.safetensors\""),
		 VAC_E_CORRUPT, "byte 109: tensor \"d\" is said to lie in \"two.safetensors\""},
		{MAP("\"a\":\"one.safetensors\",\"b\":\"one.safetensors\","
		     "\"c\":\"two.safetensors\""),
		 VAC_E_CORRUPT, "tensor \"b\" is said to lie in \"one.safetensors\", but lies in"},
		{MAP("\"a\":\"one.safetensors\",\"b\":\"three.safetensors\""), VAC_E_NOT_FOUND,
		 "three.safetensors: this shard is missing"},
		{MAP("\"a\":\"one.safetensors\",\"b\":\"cut.safetensors\""), VAC_E_CORRUPT,
		 "cut.safetensors: tensor \"b\" reaches to byte"},
		{MAP("\"a\":\"one.safetensors\",\"b\":\"two.safetensors\","
		     "\"c\":\"again.safetensors\""),
		 VAC_E_CORRUPT, "one.safetensors: tensor \"a\" lies in"},
		{MAP("\"a\":\"one.safetensors\",\"a\":\"one.safetensors\""), VAC_E_CORRUPT,
		 "weight_map has tensor \"a\" twice"},
		{MAP("\"a\":\"../one.safetensors\""), VAC_E_CORRUPT, "not a plain file name"},
		{MAP("\"a\":\"sub/one.safetensors\""), VAC_E_CORRUPT, "not a plain file name"},
		{MAP("\"a\":\"/etc/passwd\""), VAC_E_CORRUPT, "not a plain file name"},
		{MAP("\"a\":\"a..b\""), VAC_E_CORRUPT, "not a plain file name"},
		{MAP("\"a\":\"\""), VAC_E_CORRUPT, "not a plain file name"},
		{MAP("\"a\":\"one\\u0000\""), VAC_E_CORRUPT, "not a plain file name"},
		{MAP("\"a\":1"), VAC_E_CORRUPT, "a string"},
		{MAP("\"a\\u0000\":\"one.safetensors\""), VAC_E_CORRUPT, "U+0000"},
		{MAP(""), VAC_E_CORRUPT, "names no tensor"},
		{"{\"weight_map\":[]}", VAC_E_CORRUPT, "byte 14: "},
		{"{}", VAC_E_CORRUPT, "weight_map is missing"},
		{"{\"weight_map\":{},\"weight_map\":{}}", VAC_E_CORRUPT, "there twice"},
		{"[]", VAC_E_CORRUPT, "byte 0: "},
		{"{\"weight_map\":{\"a\":\"one", VAC_E_CORRUPT, "byte 19: "},
		{"", VAC_E_CORRUPT, "byte 0: "},
	};

	(void)state;
	write_tensors("m/one.safetensors", "{" T("c", U8(0, 4)) "," T("a", U8(4, 8)) "}", 8);
	write_tensors("m/two.safetensors", "{" T("b", U8(0, 4)) "}", 4);
	write_tensors("m/again.safetensors", "{" T("c", U8(0, 4)) "," T("a", U8(4, 8)) "}", 8);
	write_tensors("m/cut.safetensors", "{" T("b", U8(0, 4)) "}", 3);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		temp_text(INDEX, cases[i].index);
		expect_open("m", true, cases[i].code, cases[i].part);
	}
}

static void test_many_shards(void **state)
{
	char *index = malloc(1 << 20);
	size_t n = 0;

	(void)state;
	n += (size_t)sprintf(index + n, "{\"weight_map\":{");
	for (int i = 0; i <= 1000; i++)
		n += (size_t)sprintf(index + n, "%s\"t%d\":\"s%d\"", i ? "," : "", i, i);
	sprintf(index + n, "}}");
	temp_text(INDEX, index);
	expect_open("m", true, VAC_E_UNSUPPORTED, "more than 1000 different shards");
	free(index);
}

static void test_other_weights(void **state)
{
	static const struct {
		const char *file, *part;
	} cases[] = {
		{"flax_model.msgpack", "from_flax=True"},
		{"tf_model.h5", "from_tf=True"},
		{"model.ckpt", "\"model.ckpt\""},
		{"weights.pt", "\"model.ckpt\""},
		{"a.pth", "\"a.pth\""},
		{"Pytorch_model.bin.index.json", "\"Pytorch_model.bin.index.json\""},
		{"B.bin", "\"B.bin\""},
	};

	(void)state;
	expect_open("gone", true, VAC_E_NOT_FOUND, "gone: cannot list");
	temp_mkdir("m");
	expect_open("m", true, VAC_E_NOT_FOUND,
		    "m: has neither model.safetensors nor model.safetensors.index.json");
	temp_text("m/training_args.bin", "");
	temp_text("m/optimizer.pt", "");
	expect_open("m", true, VAC_E_NOT_FOUND, "neither");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char name[64];

		snprintf(name, sizeof(name), "m/%s", cases[i].file);
		temp_text(name, "");
		expect_open("m", true, VAC_E_UNSUPPORTED, cases[i].part);
		expect_open("m", true, VAC_E_UNSUPPORTED, "safe_serialization=True");
	}
	/* A dangling link, as an interrupted download leaves it. */
	temp_symlink("blob", "m/model.safetensors");
	expect_open("m", true, VAC_E_UNSUPPORTED, "\"B.bin\"");
}

/* Every allocation fails in turn: each failure is said to be one of memory, and
 * descriptors are where they were. */
static void test_no_memory(void **state)
{
	struct vac_safetensors st;
	struct vac_error err = {0};
	int rc, fds = count_fds();
	unsigned long n, asked;

	(void)state;
	write_tensors("m/one.safetensors",
		      "{\"__metadata__\":{\"b\":\"\",\"a\\n\":\"\"}," T("c\\n", U8(0, 4)) "," T(
			      "a", U8(4, 8)) "}",
		      8);
	write_tensors("m/two.safetensors", "{" T("b", U8(0, 4)) "}  ", 4);
	temp_text(INDEX, MAP("\"b\":\"two.safetensors\",\"a\":\"one.safetensors\","
			     "\"c\\n\":\"one.safetensors\""));
	for (n = 0;; n++) {
		fail_after(n);
		rc = vac_safetensors_open_dir(temp_path("m"), &st, &err);
		asked = fail_count();
		fail_never();
		if (rc == 0)
			break;
		assert_true(asked > n);
		assert_int_equal(rc, vac_error_errno(VAC_E_NO_ROOM));
		assert_int_equal(err.code, VAC_E_NO_ROOM);
		assert_null(st.arena);
		assert_int_equal(count_fds(), fds);
	}
	assert_true(n > 8);
	assert_int_equal(st.tensor_count, 3);
	vac_safetensors_close(&st);
	assert_int_equal(count_fds(), fds);
}

/* 100,000 tensors in an order that helps nobody. The bound is far above what
 * sorting needs and far below what comparing each with each would. */
static void test_large_header(void **state)
{
	const uint64_t count = 100000;
	char *header = malloc(count * 128);
	struct vac_safetensors st;
	struct vac_error err = {0};
	size_t n = 0;
	int64_t start;

	(void)state;
	header[n++] = '{';
	for (uint64_t i = 0; i < count; i++) {
		uint64_t k = i * 7919 % count;

		n += (size_t)sprintf(header + n,
				     "%s\"model.layers.%06llu.weight\":{\"dtype\":\"F32\","
				     "\"shape\":[1],\"data_offsets\":[%llu,%llu]}",
				     i ? "," : "", (unsigned long long)k,
				     (unsigned long long)((count - 1 - k) * 4),
				     (unsigned long long)((count - k) * 4));
	}
	header[n++] = '}';
	header[n] = '\0';
	start = vac_now_ns();
	if (parse(header, count * 4, &st, &err) != 0)
		fail_msg("%s", err.message);
	start = vac_now_ns() - start;
	print_message("100000 tensors, %zu bytes of header: %lld ms\n", n,
		      (long long)(start / 1000000));
	assert_true(start < INT64_C(10000000000));
	assert_int_equal(st.tensor_count, count);
	for (uint64_t i = 0; i < count; i += 997) {
		char name[64];

		snprintf(name, sizeof(name), "model.layers.%06llu.weight", (unsigned long long)i);
		assert_string_equal(st.tensors[i].name, name);
		assert_ptr_equal(vac_safetensors_find(&st, name), &st.tensors[i]);
		assert_int_equal(st.tensors[i].offset, 8 + n + (count - 1 - i) * 4);
	}
	vac_safetensors_close(&st);
	free(header);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_dtypes),
		cmocka_unit_test(test_bad_headers),
		cmocka_unit_test(test_bad_coverage),
		cmocka_unit_test_setup_teardown(test_length_field, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shards, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_shards, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_shards, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_weights, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
		cmocka_unit_test(test_large_header),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
