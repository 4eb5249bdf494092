/*
 * test_wire.c - frames against bytes written by hand after docs/wire.md, and
 * every way of cutting and bending them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

static struct vac_wire_string str(const char *text)
{
	return (struct vac_wire_string){text, (uint32_t)strlen(text)};
}

static void assert_string(struct vac_wire_string s, const char *want)
{
	assert_int_equal(s.bytes, strlen(want));
	assert_memory_equal(s.text, want, s.bytes);
}

static void hello_is_what_the_document_says(void **state)
{
	static const uint8_t want[] = {
		40, 0, 0, 0, 1,    0,    0,   0,   0,   0, 0, 0, 0, 0, 0, 0, /* header */
		1,  0, 0, 0, 0x39, 0x30, 0,   0,        /* version 1, pid 12345 */
		3,  0, 0, 0, 'v',  '/',  '1',           /* program */
		3,  0, 0, 0, 'c',  'p',  'u',           /* device */
		5,  0, 0, 0, 'w',  'o',  'r', 'd', 's', /* description */
		4,  0, 0, 0, 'n',  'o',  'n', 'e',      /* sandbox */
		0,                                      /* closes it to 40 bytes */
	};
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_wire_header header;
	struct vac_wire_hello hello = {1, 12345, str("v/1"), str("cpu"), str("words"), str("none")},
			      back;
	struct vac_error err;

	(void)state;
	vac_wire_put_hello(&buf, &hello);
	assert_true(vac_buf_ok(&buf));
	assert_int_equal(buf.bytes, sizeof(want));
	assert_memory_equal(buf.data, want, sizeof(want));
	assert_int_equal(vac_wire_peek(buf.data, buf.bytes, &header, &err), 1);
	assert_int_equal(header.type, VAC_WIRE_HELLO);
	assert_int_equal(header.id, 0);
	assert_int_equal(vac_wire_get_hello(buf.data + 16, header.payload_bytes, &back, &err), 0);
	assert_int_equal(back.pid, 12345);
	assert_string(back.program, "v/1");
	assert_string(back.device, "cpu");
	assert_string(back.description, "words");
	assert_string(back.sandbox, "none");
	vac_buf_free(&buf);
}

/* A worker that says nothing about a sandbox: the payload ends behind the description,
 * closed by as many zero bytes as it takes. */
static void hello_without_a_sandbox(void **state)
{
	static const char words[] = "abcdefgh";

	(void)state;
	for (uint8_t n = 0; n < 8; n++) {
		uint8_t payload[32] = {1, 0, 0, 0, 7, 0, 0, 0};
		struct vac_wire_hello back;
		struct vac_error err;

		payload[16] = n;
		memcpy(payload + 20, words, n);
		assert_int_equal(vac_wire_get_hello(payload, (20u + n + 7) / 8 * 8, &back, &err),
				 0);
		assert_int_equal(back.description.bytes, n);
		assert_int_equal(back.sandbox.bytes, 0);
	}
}

static void a_load_hands_files_over(void **state)
{
	static const uint8_t want[] = {
		48, 0, 0, 0, 3,   0,   0,   0,   5,   0,   0,   0,   0,   0, 0, 0, /* header */
		9,  0, 0, 0,                                                       /* model */
		2,  0, 0, 0, '/', 'm',                                             /* dir */
		0,  0, 0, 0,                                              /* max_batch_tokens */
		0,  0, 0, 0,                                              /* dtype */
		1,                                                        /* handed */
		2,  0, 0, 0,                                              /* files.count */
		1,  8, 0, 0, 0,   'a', '/', 'b', '.', 'j', 's', 'o', 'n', /* opened */
		2,  6, 0, 0, 0,   'c', '.', 'j', 's', 'o', 'n',           /* special */
		0,                                                        /* closes it */
	};
	struct vac_buf buf = VAC_BUF_INIT, list = VAC_BUF_INIT;
	struct vac_wire_load load = {.model = 9, .dir = str("/m"), .handed = true, .file_count = 2};
	struct vac_wire_load back;
	struct vac_wire_file file;
	struct vac_error err;

	(void)state;
	vac_wire_list_file(&list, "a/b.json", VAC_HANDED_OPEN);
	vac_wire_list_file(&list, "c.json", VAC_HANDED_SPECIAL);
	load.files = (struct vac_wire_string){(const char *)list.data, (uint32_t)list.bytes};
	vac_wire_put_load(&buf, VAC_WIRE_LOAD, 5, &load);
	assert_true(vac_buf_ok(&buf));
	assert_int_equal(buf.bytes, sizeof(want));
	assert_memory_equal(buf.data, want, sizeof(want));
	assert_int_equal(vac_wire_get_load(buf.data + 16, buf.bytes - 16, &back, &err), 0);
	assert_int_equal(back.model, 9);
	assert_string(back.dir, "/m");
	assert_true(back.handed);
	assert_int_equal(back.file_count, 2);
	assert_true(vac_wire_next_file(&back.files, &file));
	assert_int_equal(file.state, VAC_HANDED_OPEN);
	assert_string(file.name, "a/b.json");
	assert_true(vac_wire_next_file(&back.files, &file));
	assert_int_equal(file.state, VAC_HANDED_SPECIAL);
	assert_string(file.name, "c.json");
	assert_false(vac_wire_next_file(&back.files, &file));
	vac_buf_free(&list);
	vac_buf_free(&buf);
}

static void a_wrong_list_of_files_is_refused(void **state)
{
	/* model 9, dir "/m", then max_batch_tokens and dtype to byte 18, handed there, count at
	 * 19, the one entry at 23 */
	static const uint8_t good[32] = {9, 0, 0, 0, 2, 0, 0, 0, '/', 'm', 0, 0, 0, 0,  0,
					 0, 0, 0, 1, 1, 0, 0, 0, 1,   1,   0, 0, 0, 'a'};
	static const struct {
		size_t at;
		uint8_t value;
		const char *field;
	} wrong[] = {
		{18, 2, "handed"},        {18, 0, "files.count"}, {20, 0x11, "files.count"},
		{23, 5, "files.state"},   {24, 0, "files.name"},  {24, 9, "files.name"},
		{28, '\0', "files.name"}, {19, 3, "files.name"},
	};
	struct vac_wire_load back;
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_wire_get_load(good, sizeof(good), &back, &err), 0);
	assert_int_equal(back.file_count, 1);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		uint8_t payload[sizeof(good)];

		memcpy(payload, good, sizeof(good));
		payload[wrong[i].at] = wrong[i].value;
		assert_int_equal(vac_wire_get_load(payload, sizeof(payload), &back, &err), -EINVAL);
		assert_non_null(strstr(err.message, wrong[i].field));
	}
}

static void another_version_is_refused_by_name(void **state)
{
	static const uint8_t payload[8] = {9, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
	struct vac_wire_hello hello;
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_wire_get_hello(payload, sizeof(payload), &hello, &err), -ENOTSUP);
	assert_int_equal(err.code, VAC_E_UNSUPPORTED);
	assert_non_null(strstr(err.message, "version 9, this server 1"));
}

static void a_task_is_what_the_document_says(void **state)
{
	static const uint8_t want[] = {
		40,   0,    0,    0,    4,    0,    0,    0,    0x88, 0x77, 0x66, 0x55,
		0x44, 0x33, 0x22, 0x11, 7,    0,    0,    0, /* model */
		1,    2,    1,                           /* embed, normalize off, truncate right */
		64,   0,    0,    0,                     /* dimensions */
		2,    0,    0,    0,                     /* inputs */
		0,    2,    0,    0,    0,    'h',  'i', /* text */
		1,    3,    0,    0,    0,    0, /* ids: count, one zero byte up to 28 + 16 = 44 */
		101,  0,    0,    0,    0xff, 0xff, 0xff, 0xff, 102,  0,    0,    0,
	};
	static const int32_t ids[] = {101, -1, 102};
	struct vac_input inputs[2] = {{.text = "hi", .text_bytes = 2}, {.ids = ids, .id_count = 3}};
	struct vac_wire_task task = {
		.model = 7,
		.options = {VAC_TASK_EMBED, VAC_NORMALIZE_OFF, VAC_TRUNCATE_RIGHT, 64},
		.input_count = 2,
		.inputs = inputs,
	};
	struct vac_wire_task back;
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_error err;

	(void)state;
	vac_wire_put_task(&buf, UINT64_C(0x1122334455667788), &task);
	assert_true(vac_buf_ok(&buf));
	assert_int_equal(buf.bytes, sizeof(want));
	assert_memory_equal(buf.data, want, sizeof(want));
	assert_int_equal(vac_wire_get_task(buf.data + 16, 40, &back, &err), 0);
	assert_int_equal(back.model, 7);
	assert_int_equal(back.options.dimensions, 64);
	assert_int_equal(back.input_count, 2);
	assert_null(back.inputs[0].ids);
	assert_int_equal(back.inputs[0].text_bytes, 2);
	assert_memory_equal(back.inputs[0].text, "hi", 2);
	assert_int_equal(back.inputs[1].id_count, 3);
	assert_memory_equal(back.inputs[1].ids, ids, sizeof(ids));
	vac_wire_task_free(&back);
	vac_buf_free(&buf);
}

static void a_load_is_what_the_document_says(void **state)
{
	static const uint8_t want[] = {
		32, 0, 0, 0, 3,   0,   0,   0,   5, 0, 0, 0, 0, 0, 0, 0, /* header */
		7,  0, 0, 0,                                             /* model */
		2,  0, 0, 0, '/', 'a',                                   /* dir */
		0,  2, 0, 0,                                             /* max_batch_tokens */
		4,  0, 0, 0, 'b', 'f', '1', '6',                         /* dtype */
		0,                                                       /* handed */
		0,  0, 0, 0,                                             /* files.count */
		0,  0, 0, 0, 0,                                          /* closes it */
	};
	struct vac_wire_load load = {
		.model = 7, .dir = str("/a"), .max_batch_tokens = 512, .dtype = str("bf16")};
	struct vac_wire_load back;
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_error err;

	(void)state;
	vac_wire_put_load(&buf, VAC_WIRE_LOAD, 5, &load);
	assert_true(vac_buf_ok(&buf));
	assert_int_equal(buf.bytes, sizeof(want));
	assert_memory_equal(buf.data, want, sizeof(want));
	assert_int_equal(vac_wire_get_load(buf.data + 16, 32, &back, &err), 0);
	assert_int_equal(back.model, 7);
	assert_string(back.dir, "/a");
	assert_int_equal(back.max_batch_tokens, 512);
	assert_string(back.dtype, "bf16");
	/* Every shorter payload is refused. */
	for (size_t cut = 0; cut < 27; cut++)
		assert_int_equal(vac_wire_get_load(buf.data + 16, cut, &back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "'files.count'"));
	/* Neither string may end before its end. */
	buf.data[16 + 19] = 0;
	assert_int_equal(vac_wire_get_load(buf.data + 16, 32, &back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "'dtype'"));
	vac_buf_free(&buf);
	/* A directory may be long, a dtype not. */
	load.dtype = str("float32_and_more");
	vac_wire_put_load(&buf, VAC_WIRE_LOAD, 5, &load);
	assert_int_equal(vac_wire_get_load(buf.data + 16, buf.bytes - 16, &back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "'dtype'"));
	vac_buf_free(&buf);
}

/* Before each text, and not before token ids. */
static void prompts_stand_before_texts(void **state)
{
	static const int32_t ids[] = {101, 102};
	struct vac_input inputs[3] = {{.text = "hi", .text_bytes = 2},
				      {.ids = ids, .id_count = 2},
				      {.text = "", .text_bytes = 0}};
	struct vac_wire_task task = {.model = 7,
				     .options = {.task = VAC_TASK_EMBED},
				     .prompt = str("query: "),
				     .input_count = 3,
				     .inputs = inputs};
	struct vac_wire_task back;
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_error err;

	(void)state;
	vac_wire_put_task(&buf, 1, &task);
	assert_true(vac_buf_ok(&buf));
	assert_int_equal(vac_wire_get_task(buf.data + 16, buf.bytes - 16, &back, &err), 0);
	assert_int_equal(back.inputs[0].text_bytes, 9);
	assert_memory_equal(back.inputs[0].text, "query: hi", 9);
	assert_int_equal(back.inputs[1].id_count, 2);
	assert_memory_equal(back.inputs[1].ids, ids, sizeof(ids));
	assert_int_equal(back.inputs[2].text_bytes, 7);
	assert_memory_equal(back.inputs[2].text, "query: ", 7);
	vac_wire_task_free(&back);
	vac_buf_free(&buf);
}

/* Every shorter payload of a TASK is refused, and none reads past its end
 * (the copy is exactly as long, for the address sanitizer). */
static void cut_tasks_are_refused(void **state)
{
	static const int32_t ids[] = {1, 2, 3, 4};
	struct vac_input inputs[2] = {{.ids = ids, .id_count = 4},
				      {.text = "abcdef", .text_bytes = 6}};
	struct vac_wire_task task = {.model = 1,
				     .options = {.task = VAC_TASK_EMBED},
				     .input_count = 2,
				     .inputs = inputs};
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_error err;
	size_t fields;

	(void)state;
	vac_wire_put_task(&buf, 1, &task);
	/* 15 + 5 + 0 padding (36 is a multiple of 4) + 16 + 5 + 6 */
	fields = 47;
	assert_int_equal(buf.bytes, 16 + 48);
	for (size_t cut = 0; cut < fields; cut++) {
		uint8_t *copy = malloc(cut ? cut : 1);
		struct vac_wire_task back;

		assert_non_null(copy);
		memcpy(copy, buf.data + 16, cut);
		assert_int_equal(vac_wire_get_task(copy, cut, &back, &err), -EINVAL);
		assert_non_null(strstr(err.message, "TASK"));
		assert_null(back.inputs);
		free(copy);
	}
	vac_buf_free(&buf);
}

static void a_count_that_cannot_be_true_allocates_nothing(void **state)
{
	/* 65,536 inputs announced in a payload that holds none */
	static const _Alignas(8)
		uint8_t payload[24] = {1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0};
	struct vac_wire_task back;
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_wire_get_task(payload, sizeof(payload), &back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "input_count"));
	assert_null(back.inputs);
}

static void bad_headers_break_the_stream(void **state)
{
	uint8_t head[16] = {8, 0, 0, 0, 4};
	struct vac_wire_header header;
	struct vac_error err;

	(void)state;
	for (size_t n = 0; n < 16; n++)
		assert_int_equal(vac_wire_peek(head, n, &header, &err), 0);
	assert_int_equal(vac_wire_peek(head, 16, &header, &err), 0);
	head[6] = 1;
	assert_int_equal(vac_wire_peek(head, 16, &header, &err), -EINVAL);
	assert_non_null(strstr(err.message, "flags 0x1"));
	head[6] = 0;
	head[0] = 9;
	assert_int_equal(vac_wire_peek(head, 16, &header, &err), -EINVAL);
	assert_non_null(strstr(err.message, "9 bytes"));
	head[0] = 8;
	head[3] = 4; /* 64 MiB and 8 bytes */
	assert_int_equal(vac_wire_peek(head, 16, &header, &err), -E2BIG);
	assert_non_null(strstr(err.message, "67108872"));
}

static void models_come_back_as_they_went(void **state)
{
	struct vac_wire_model model = {
		.plan = {.count = 2,
			 .items = {{VAC_REGION_WEIGHTS, false, 8192},
				   {VAC_REGION_SCRATCH, true, 4096}},
			 .file_bytes = 90868376,
			 .load_bytes = 65536},
		.architecture = str("bert"),
		.dtype = str("float32"),
		.pooling = str("mean"),
		.normalize = true,
		.parameters = 22713216,
		.hidden_size = 384,
		.layers = 6,
		.heads = 12,
		.vocab_size = 30522,
		.embedding_dimensions = 384,
		.max_tokens = 256,
		.tasks = VAC_TASK_BIT(VAC_TASK_EMBED),
		.ledger_bytes = 12288,
		.stage_ns = {1, 2, 3, 4, 5, 6},
	};
	struct vac_wire_model back;
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_error err;

	(void)state;
	vac_wire_put_model(&buf, VAC_WIRE_LOADED, 3, &model);
	assert_int_equal(vac_wire_get_model(buf.data + 16, buf.bytes - 16, &back, &err), 0);
	assert_int_equal(back.plan.count, 2);
	assert_int_equal(back.plan.items[1].kind, VAC_REGION_SCRATCH);
	assert_true(back.plan.items[1].on_device);
	assert_int_equal(back.plan.items[0].bytes, 8192);
	assert_int_equal(back.plan.file_bytes, 90868376);
	assert_string(back.architecture, "bert");
	assert_string(back.pooling, "mean");
	assert_true(back.normalize);
	assert_int_equal(back.parameters, 22713216);
	assert_int_equal(back.max_tokens, 256);
	assert_int_equal(back.tasks, 2);
	assert_int_equal(back.stage_ns[5], 6);
	/* an unknown region kind */
	buf.data[16 + 4] = 99;
	assert_int_equal(vac_wire_get_model(buf.data + 16, buf.bytes - 16, &back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "plan.kind"));
	/* more items than there can be */
	buf.data[16] = 200;
	assert_int_equal(vac_wire_get_model(buf.data + 16, buf.bytes - 16, &back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "plan.count"));
	vac_buf_free(&buf);
}

static void results_carry_vectors_in_place(void **state)
{
	static const float vectors[6] = {1.0f, -2.5f, 0.0f, 3.25f, 1e-30f, -0.0f};
	struct vac_wire_result result = {.rows = 2,
					 .dimensions = 3,
					 .tokens = 9,
					 .tokenize_ns = 1,
					 .queue_ns = 2,
					 .compute_ns = 3,
					 .vectors = (const uint8_t *)vectors};
	struct vac_wire_result back;
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_error err;

	(void)state;
	vac_wire_put_result(&buf, 5, &result);
	assert_int_equal(vac_wire_get_result(buf.data + 16, buf.bytes - 16, &back, &err), 0);
	assert_int_equal((uintptr_t)back.vectors % 4, 0);
	assert_memory_equal(back.vectors, vectors, sizeof(vectors));
	assert_int_equal(back.tokens, 9);
	/* rows x dimensions must not overflow into something small */
	memset(buf.data + 16, 0xff, 8);
	assert_int_equal(vac_wire_get_result(buf.data + 16, buf.bytes - 16, &back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "rows x dimensions"));
	vac_buf_free(&buf);
}

static void errors_keep_code_and_sentence(void **state)
{
	struct vac_error error = {.code = VAC_E_CORRUPT, .message = "it was cut", .detail = "at 7"};
	struct vac_error back, err;
	struct vac_buf buf = VAC_BUF_INIT;

	(void)state;
	vac_wire_put_error(&buf, 5, &error);
	assert_int_equal(vac_wire_get_error(buf.data + 16, buf.bytes - 16, &back, &err), 0);
	assert_int_equal(back.code, VAC_E_CORRUPT);
	assert_string_equal(back.message, "it was cut");
	assert_string_equal(back.detail, "at 7");
	buf.data[16] = 200; /* a code of the future */
	assert_int_equal(vac_wire_get_error(buf.data + 16, buf.bytes - 16, &back, &err), 0);
	assert_int_equal(back.code, VAC_E_INTERNAL);
	vac_buf_free(&buf);
}

static void ledgers_are_counted(void **state)
{
	struct vac_region b = {.owner = 2, .kind = VAC_REGION_PACKED, .bytes = 4096};
	struct vac_region a = {.owner = 1, .kind = VAC_REGION_WEIGHTS, .bytes = 8192, .next = &b};
	struct vac_ledger ledger = {.regions = &a, .host_bytes = 12288, .count = 2};
	struct vac_wire_measured *back = malloc(sizeof(*back));
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_error err;

	(void)state;
	assert_non_null(back);
	vac_wire_put_measured(&buf, 5, &ledger);
	assert_int_equal(vac_wire_get_measured(buf.data + 16, buf.bytes - 16, back, &err), 0);
	assert_int_equal(back->region_count, 2);
	assert_int_equal(back->host_bytes, 12288);
	assert_int_equal(back->regions[0].owner, 1);
	assert_int_equal(back->regions[1].kind, VAC_REGION_PACKED);
	assert_int_equal(back->regions[1].bytes, 4096);
	vac_buf_free(&buf);
	free(back);
}

/* Byte by byte as docs/wire.md has it. */
static void gpus_are_what_the_document_says(void **state)
{
	static const char expected[] = "\1\0\0\0"
				       "\6\0\0\0cuda:3"
				       "\3\0\0\0Big"
				       "\5\0\0\0GPU-9"
				       "\0\0\0\0\1\0\0\0"
				       "\7\0\0\0\0\0\0\0"
				       "\1\0\0\0"
				       "\x2a\0\0\0\1\5\0\0\0\0\0\0\0";
	struct vac_wire_gpus *gpus = calloc(1, sizeof(*gpus)), *back = calloc(1, sizeof(*back));
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_error err;

	(void)state;
	assert_non_null(gpus);
	assert_non_null(back);
	gpus->count = 1;
	gpus->gpus[0] = (struct vac_wire_gpu){
		.device = vac_wire_text("cuda:3"),
		.name = vac_wire_text("Big"),
		.uuid = vac_wire_text("GPU-9"),
		.total_bytes = (uint64_t)1 << 32,
		.used_bytes = 7,
		.process_count = 1,
		.processes = {{.pid = 42, .bytes_valid = true, .bytes = 5}},
	};
	vac_wire_put_gpus(&buf, 5, gpus);
	assert_memory_equal(buf.data + 16, expected, sizeof(expected) - 1);
	assert_int_equal(vac_wire_get_gpus(buf.data + 16, buf.bytes - 16, back, &err), 0);
	assert_int_equal(back->gpus[0].total_bytes, (uint64_t)1 << 32);
	assert_int_equal(back->gpus[0].processes[0].pid, 42);
	buf.data[16] = VAC_WIRE_MAX_GPUS + 1;
	assert_int_equal(vac_wire_get_gpus(buf.data + 16, buf.bytes - 16, back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "'count'"));
	buf.data[16] = 2; /* one more than there are */
	assert_int_equal(vac_wire_get_gpus(buf.data + 16, buf.bytes - 16, back, &err), -EINVAL);
	assert_non_null(strstr(err.message, "GPUS_READ"));
	/* as many as `vacate ps` shows */
	vac_buf_reset(&buf);
	gpus->count = 128;
	for (uint32_t i = 0; i < gpus->count; i++)
		gpus->gpus[i] = (struct vac_wire_gpu){.used_bytes = i};
	vac_wire_put_gpus(&buf, 5, gpus);
	assert_int_equal(vac_wire_get_gpus(buf.data + 16, buf.bytes - 16, back, &err), 0);
	assert_int_equal(back->count, 128);
	for (uint32_t i = 0; i < back->count; i++) {
		assert_int_equal(back->gpus[i].used_bytes, i);
		assert_int_equal(back->gpus[i].process_count, 0);
	}
	vac_buf_free(&buf);
	free(gpus);
	free(back);
}

static void what_a_device_gave_back_is_part_of_all(void **state)
{
	struct vac_wire_unloaded unloaded = {9000, 4096, 2}, back;
	struct vac_buf buf = VAC_BUF_INIT;
	struct vac_error err;

	(void)state;
	vac_wire_put_unloaded(&buf, 5, &unloaded);
	assert_int_equal(vac_wire_get_unloaded(buf.data + 16, buf.bytes - 16, &back, &err), 0);
	assert_int_equal(back.freed_bytes, 9000);
	assert_int_equal(back.freed_device_bytes, 4096);
	assert_int_equal(back.models_left, 2);
	buf.data[16 + 9] = 0xff; /* more than all */
	assert_int_equal(vac_wire_get_unloaded(buf.data + 16, buf.bytes - 16, &back, &err),
			 -EINVAL);
	assert_non_null(strstr(err.message, "freed_device_bytes"));
	vac_buf_free(&buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello_is_what_the_document_says),
		cmocka_unit_test(hello_without_a_sandbox),
		cmocka_unit_test(a_load_hands_files_over),
		cmocka_unit_test(a_wrong_list_of_files_is_refused),
		cmocka_unit_test(another_version_is_refused_by_name),
		cmocka_unit_test(a_task_is_what_the_document_says),
		cmocka_unit_test(a_load_is_what_the_document_says),
		cmocka_unit_test(prompts_stand_before_texts),
		cmocka_unit_test(cut_tasks_are_refused),
		cmocka_unit_test(a_count_that_cannot_be_true_allocates_nothing),
		cmocka_unit_test(bad_headers_break_the_stream),
		cmocka_unit_test(models_come_back_as_they_went),
		cmocka_unit_test(results_carry_vectors_in_place),
		cmocka_unit_test(errors_keep_code_and_sentence),
		cmocka_unit_test(ledgers_are_counted),
		cmocka_unit_test(gpus_are_what_the_document_says),
		cmocka_unit_test(what_a_device_gave_back_is_part_of_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
