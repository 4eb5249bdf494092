/* test_top.c - what `vacate top` shows, without a terminal: history, curves, idleness,
 * order, and what a screen has room for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/top_model.h"

#define GIB ((uint64_t)1 << 30)

static void add(struct vac_top_history *history, bool known, uint64_t bytes, uint32_t percent)
{
	const struct vac_top_sample sample = {
		.bytes_valid = known, .bytes = bytes, .percent = {known, percent}};

	vac_top_history_add(history, &sample);
}

static void test_history(void **state)
{
	static struct vac_top_history history;

	(void)state;
	memset(&history, 0, sizeof(history));
	assert_null(vac_top_history_at(&history, 0));
	for (uint64_t i = 0; i < VAC_TOP_SAMPLES + 10; i++) {
		add(&history, true, i, 0);
		assert_int_equal(vac_top_history_at(&history, 0)->bytes, i);
		assert_int_equal(history.count, i < VAC_TOP_SAMPLES ? i + 1 : VAC_TOP_SAMPLES);
	}
	/* The oldest have gone. */
	assert_int_equal(vac_top_history_at(&history, VAC_TOP_SAMPLES - 1)->bytes, 10);
	assert_null(vac_top_history_at(&history, VAC_TOP_SAMPLES));
}

static void test_curves(void **state)
{
	static struct vac_top_history history;
	uint8_t levels[10];

	(void)state;
	memset(&history, 0, sizeof(history));
	vac_top_spark(&history, VAC_TOP_VRAM_CURVE, 0, 3, levels);
	assert_memory_equal(levels, ((uint8_t[]){0, 0, 0}), 3);
	add(&history, true, 0, 0);
	add(&history, true, 1, 1);
	add(&history, false, 77, 77);
	add(&history, true, 40 * GIB, 50);
	add(&history, true, 80 * GIB, 100);
	/* The newest on the right; nothing known is 0, known to be nothing 1. */
	vac_top_spark(&history, VAC_TOP_VRAM_CURVE, 80 * GIB, 7, levels);
	assert_memory_equal(levels, ((uint8_t[]){0, 0, 1, 2, 0, 5, 8}), 7);
	vac_top_spark(&history, VAC_TOP_GPU_CURVE, 100, 7, levels);
	assert_memory_equal(levels, ((uint8_t[]){0, 0, 1, 2, 0, 5, 8}), 7);
	/* More than there can be. */
	vac_top_spark(&history, VAC_TOP_VRAM_CURVE, 40 * GIB, 2, levels);
	assert_memory_equal(levels, ((uint8_t[]){8, 8}), 2);
	/* Against its own most, also where that is not shown. */
	add(&history, true, 20 * GIB, 0);
	vac_top_spark(&history, VAC_TOP_VRAM_CURVE, 0, 1, levels);
	assert_int_equal(levels[0], 1 + 2);
	memset(&history, 0, sizeof(history));
	add(&history, true, 0, 0);
	vac_top_spark(&history, VAC_TOP_VRAM_CURVE, 0, 1, levels);
	assert_int_equal(levels[0], 1);
}

static void test_tracks(void **state)
{
	struct vac_top_tracks tracks = {0};
	struct vac_top_track *first[100];

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		first[i] = vac_top_track(&tracks, i, 7);
	/* The same number that began at another time is another process. */
	assert_ptr_not_equal(vac_top_track(&tracks, 0, 8), first[0]);
	vac_top_sweep(&tracks);
	assert_int_equal(tracks.count, 101);
	/* In any order; who is not asked for is forgotten. */
	for (uint64_t i = 100; i-- > 50;)
		assert_ptr_equal(vac_top_track(&tracks, i, 7), first[i]);
	vac_top_sweep(&tracks);
	assert_int_equal(tracks.count, 50);
	assert_ptr_equal(vac_top_track(&tracks, 60, 7), first[60]);
	assert_int_equal(vac_top_track(&tracks, 3, 7)->history.count, 0);
	vac_top_tracks_free(&tracks);
	assert_int_equal(tracks.count, 0);
}

static struct vac_top_idle told(bool busy, bool at_least, int64_t ms)
{
	return (struct vac_top_idle){.valid = true, .busy = busy, .at_least = at_least, .ms = ms};
}

static void expect_idle(struct vac_top_track *track, struct vac_top_idle says, int64_t now_ms,
			struct vac_top_idle expected)
{
	struct vac_top_idle got = vac_top_watch_idle(track, &says, now_ms);

	assert_int_equal(got.valid, expected.valid);
	assert_int_equal(got.busy, expected.busy);
	assert_int_equal(got.at_least, expected.at_least);
	assert_int_equal(got.ms, expected.ms);
}

static void test_idleness(void **state)
{
	struct vac_top_track track = {0};
	const struct vac_top_idle unknown = {0};

	(void)state;
	/* NVML looks back 2 s each time: who watched it from the start knows more. */
	expect_idle(&track, told(false, true, 2000), 10000, told(false, true, 2000));
	expect_idle(&track, told(false, true, 2000), 11000, told(false, true, 3000));
	expect_idle(&track, unknown, 12000, unknown);
	expect_idle(&track, told(false, true, 2000), 70000, told(false, true, 62000));
	/* Its samples reach further back than we were there. */
	expect_idle(&track, told(false, true, 90000), 71000, told(false, true, 90000));
	expect_idle(&track, told(false, true, 2000), 72000, told(false, true, 91000));
	/* Seen in use: from then on it is known, and no bound. */
	expect_idle(&track, told(true, false, 0), 80000, told(true, false, 0));
	expect_idle(&track, told(false, true, 2000), 85000, told(false, false, 5000));
	/* NVML's own word, where a use is among its samples. */
	expect_idle(&track, told(false, false, 1500), 86000, told(false, false, 1500));
	expect_idle(&track, told(false, true, 2000), 90000, told(false, false, 5500));
	/* A clock of NVML's that runs behind. */
	expect_idle(&track, told(true, false, 0), 100000, told(true, false, 0));
	expect_idle(&track, told(false, true, 2000), 100000, told(false, false, 0));
}

static void test_clean(void **state)
{
	static const struct {
		const char *text, *clean;
	} cases[] = {
		{"train.py", "train.py"},
		{"", ""},
		{"\033]0;x\007\r\n\t\x7f", "?]0;x?????"},
		{"\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80", "???"}, /* three characters */
		{"\x9b"
		 "31m \xff\xfe",
		 "?31m ??"},                                     /* not UTF-8 */
		{"a\xcc\x81z\xc2\x9bz\xe2\x80\xaez", "a?z?z?z"}, /* combining, C1, bidi */
	};
	char to[32], small[4];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		vac_top_clean(to, sizeof(to), cases[i].text);
		assert_string_equal(to, cases[i].clean);
		/* In place. */
		snprintf(to, sizeof(to), "%s", cases[i].text);
		vac_top_clean(to, sizeof(to), to);
		assert_string_equal(to, cases[i].clean);
	}
	vac_top_clean(small, sizeof(small), "abcdef");
	assert_string_equal(small, "abc");
	for (int c = 1; c < 256; c++) {
		const char text[] = {(char)c, '\0'};

		vac_top_clean(to, sizeof(to), text);
		assert_true(strlen(to) == 1 && to[0] >= ' ' && to[0] <= '~');
	}
}

/* ---- order ---- */

static struct vac_top_process make(uint32_t pid, const char *what, int64_t vram, int64_t ram,
				   int gpu, struct vac_top_idle idle)
{
	struct vac_top_process p = {.shown_pid = pid,
				    .vram_valid = vram >= 0,
				    .vram_bytes = (uint64_t)vram,
				    .ram_valid = ram >= 0,
				    .ram_bytes = (uint64_t)ram,
				    .gpu_percent = {gpu >= 0, (uint32_t)gpu},
				    .idle = idle};

	snprintf(p.what, sizeof(p.what), "%s", what);
	return p;
}

static void expect_order(enum vac_top_order order, bool reversed, const char *expected)
{
	struct vac_top_process list[] = {
		make(1, "b", 10, -1, 50, told(true, false, 0)),
		make(2, "a", 30, 5, -1, (struct vac_top_idle){0}),
		make(3, "c", -1, 7, 0, told(false, true, 100)),
		make(4, "", 20, 5, 0, told(false, false, 0)),
		make(5, "a", 20, 6, 99, told(false, false, 500)),
	};
	char got[16];
	size_t count = sizeof(list) / sizeof(list[0]);

	vac_top_sort_processes(list, count, order, reversed);
	for (size_t i = 0; i < count; i++)
		got[i] = (char)('0' + list[i].shown_pid);
	got[count] = '\0';
	assert_string_equal(got, expected);
}

static void test_order(void **state)
{
	(void)state;
	/* What is not known is last both ways; equal ones go by number, both ways. */
	expect_order(VAC_TOP_BY_VRAM, false, "24513");
	expect_order(VAC_TOP_BY_VRAM, true, "14523");
	expect_order(VAC_TOP_BY_RAM, false, "35241");
	expect_order(VAC_TOP_BY_RAM, true, "24531");
	expect_order(VAC_TOP_BY_GPU, false, "51342");
	expect_order(VAC_TOP_BY_GPU, true, "34152");
	/* Busy is less than idle for no time. */
	expect_order(VAC_TOP_BY_IDLE, false, "53412");
	expect_order(VAC_TOP_BY_IDLE, true, "14352");
	expect_order(VAC_TOP_BY_NAME, false, "25134");
	expect_order(VAC_TOP_BY_NAME, true, "31254");
	assert_string_equal(vac_top_order_name(VAC_TOP_BY_IDLE), "IDLE");
	vac_top_sort_processes(NULL, 0, VAC_TOP_BY_RAM, false);
}

static void test_order_of_models(void **state)
{
	struct vac_top_model models[] = {
		{.name = "b", .ram_valid = true, .ram_bytes = 1, .idle = told(false, false, 9)},
		{.name = "a", .ram_valid = true, .ram_bytes = 2, .idle = told(false, false, 5)},
		{.name = "c"},
	};
	static const struct {
		enum vac_top_order order;
		bool reversed;
		const char *names;
	} cases[] = {
		{VAC_TOP_BY_RAM, false, "abc"},  {VAC_TOP_BY_RAM, true, "bac"},
		{VAC_TOP_BY_IDLE, false, "bac"}, {VAC_TOP_BY_IDLE, true, "abc"},
		{VAC_TOP_BY_NAME, false, "abc"}, {VAC_TOP_BY_NAME, true, "cba"},
		{VAC_TOP_BY_GPU, false, "abc"}, /* not known of any: by name */
		{VAC_TOP_BY_VRAM, true, "abc"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		vac_top_sort_models(models, 3, cases[i].order, cases[i].reversed);
		for (size_t k = 0; k < 3; k++)
			assert_int_equal(models[k].name[0], cases[i].names[k]);
	}
}

/* ---- room ---- */

static unsigned total(const unsigned *widths, size_t count)
{
	unsigned sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += widths[i] ? widths[i] + (sum > 0) : 0;
	return sum;
}

static void check_layout(const struct vac_top_column *columns, size_t count, unsigned from)
{
	unsigned widths[VAC_TOP_MAX_COLUMNS], before = 0;

	for (unsigned width = from; width <= 400; width++) {
		unsigned shown = 0;

		vac_top_layout(columns, count, width, widths);
		assert_true(total(widths, count) <= width);
		for (size_t i = 0; i < count; i++) {
			shown += widths[i] > 0;
			assert_true(widths[i] == 0 || widths[i] >= columns[i].least);
			assert_true(widths[i] <= columns[i].most);
			/* What is never left out. */
			assert_true(columns[i].rank > 0 || widths[i] > 0);
			/* Nothing stays while something of less rank goes. */
			for (size_t k = 0; k < count; k++)
				assert_false(widths[i] == 0 && widths[k] > 0 &&
					     columns[k].rank > columns[i].rank);
		}
		/* A wider screen shows no less. */
		assert_true(shown >= before);
		before = shown;
	}
	assert_int_equal(before, count);
}

static void test_layout(void **state)
{
	static const struct vac_top_column two[] = {{"A", 3, 9}, {"B", 3, 5, .rank = 1}};
	unsigned widths[VAC_TOP_PROCESS_COLUMNS];

	(void)state;
	check_layout(vac_top_process_columns, VAC_TOP_PROCESS_COLUMNS, VAC_TOP_LEAST_COLUMNS);
	check_layout(vac_top_model_columns, VAC_TOP_MODEL_COLUMNS, VAC_TOP_LEAST_COLUMNS);
	check_layout(vac_top_device_columns, VAC_TOP_DEVICE_COLUMNS, VAC_TOP_LEAST_COLUMNS);
	/* In 80 columns a process has both curves, and its user. */
	vac_top_layout(vac_top_process_columns, VAC_TOP_PROCESS_COLUMNS, 80, widths);
	assert_true(widths[VAC_TOP_PROCESS_USER] && widths[VAC_TOP_PROCESS_VRAM_CURVE] >= 5 &&
		    widths[VAC_TOP_PROCESS_GPU_CURVE] >= 5);
	/* What is left over is shared. */
	vac_top_layout(two, 2, 7, widths);
	assert_true(widths[0] == 3 && widths[1] == 3);
	vac_top_layout(two, 2, 10, widths);
	assert_true(widths[0] == 5 && widths[1] == 4);
	vac_top_layout(two, 2, 100, widths);
	assert_true(widths[0] == 9 && widths[1] == 5);
	vac_top_layout(two, 2, 6, widths);
	assert_true(widths[0] == 6 && widths[1] == 0);
	vac_top_layout(two, 2, 2, widths);
	assert_true(widths[0] == 2 && widths[1] == 0);
}

static void expect_share(unsigned lines, size_t devices, size_t models, size_t processes,
			 unsigned a, unsigned b, unsigned c)
{
	const size_t wanted[VAC_TOP_SECTIONS] = {devices, models, processes};
	unsigned shares[VAC_TOP_SECTIONS];

	vac_top_share(lines, wanted, shares);
	assert_int_equal(shares[VAC_TOP_DEVICES], a);
	assert_int_equal(shares[VAC_TOP_MODELS], b);
	assert_int_equal(shares[VAC_TOP_PROCESSES], c);
}

static void test_share(void **state)
{
	(void)state;
	expect_share(20, 2, 3, 5, 2, 3, 5); /* room for all */
	expect_share(20, 0, 0, 5, 0, 0, 5);
	expect_share(20, 1, 1, 1, 1, 1, 1);
	expect_share(20, 3, 4, 100, 3, 4, 13); /* the short ones whole */
	expect_share(12, 20, 20, 20, 4, 4, 4);
	expect_share(5, 9, 9, 9, 2, 0, 3); /* no header without a row */
	expect_share(3, 9, 9, 9, 0, 0, 3);
	expect_share(2, 9, 9, 9, 0, 0, 2);
	expect_share(1, 9, 9, 9, 0, 0, 0);
	expect_share(1, 1, 9, 0, 1, 0, 0);
	expect_share(0, 1, 1, 1, 0, 0, 0);
}

static void test_scroll(void **state)
{
	(void)state;
	assert_int_equal(vac_top_scroll(5, 10, 10, 0), 0); /* all fit */
	assert_int_equal(vac_top_scroll(0, 20, 10, 9), 0);
	assert_int_equal(vac_top_scroll(0, 20, 10, 10), 1);
	assert_int_equal(vac_top_scroll(0, 20, 10, 19), 10);
	assert_int_equal(vac_top_scroll(10, 20, 10, 12), 10); /* stays where it is seen */
	assert_int_equal(vac_top_scroll(10, 20, 10, 3), 3);
	assert_int_equal(vac_top_scroll(15, 20, 10, 20), 10); /* none selected; not past the end */
	assert_int_equal(vac_top_scroll(7, 20, 0, 3), 0);
}

/* ---- cells ---- */

static void test_cells(void **state)
{
	struct vac_top_process p =
		make(42, "train.py", 5 * (int64_t)GIB, 512, 97, told(true, false, 0));
	struct vac_top_device d = {.answers = false, .device = "gpu:1", .error = "the GPU is lost"};
	struct vac_top_model m = {.name = "a/b", .state = "resident", .worker = 7};
	vac_top_cells cells;

	(void)state;
	vac_top_process_cells(&p, cells);
	assert_string_equal(cells[VAC_TOP_PROCESS_PID], "42");
	assert_string_equal(cells[VAC_TOP_PROCESS_USER], "-");
	assert_string_equal(cells[VAC_TOP_PROCESS_VRAM], "5.0 GiB");
	assert_string_equal(cells[VAC_TOP_PROCESS_RAM], "512 B");
	assert_string_equal(cells[VAC_TOP_PROCESS_GPU], "97%");
	assert_string_equal(cells[VAC_TOP_PROCESS_IDLE], "busy");
	assert_string_equal(cells[VAC_TOP_PROCESS_VRAM_CURVE], "");
	p.idle = told(false, true, 6100);
	p.vram_valid = p.gpu_percent.valid = false;
	vac_top_process_cells(&p, cells);
	assert_string_equal(cells[VAC_TOP_PROCESS_IDLE], ">6.1 s");
	assert_string_equal(cells[VAC_TOP_PROCESS_VRAM], "-");
	assert_string_equal(cells[VAC_TOP_PROCESS_GPU], "-");
	vac_top_device_cells(&d, cells);
	assert_string_equal(cells[VAC_TOP_DEVICE_NAME], "the GPU is lost");
	assert_string_equal(cells[VAC_TOP_DEVICE_TOTAL], "-");
	assert_string_equal(cells[VAC_TOP_DEVICE_UNACCOUNTED], "-");
	vac_top_model_cells(&m, cells);
	assert_string_equal(cells[VAC_TOP_MODEL_WORKER], "7");
	assert_string_equal(cells[VAC_TOP_MODEL_REQUESTS], "-");
	assert_string_equal(cells[VAC_TOP_MODEL_IDLE], "-");
}

static void test_fields(void **state)
{
	static const struct {
		const char *text;
		unsigned width;
		bool right;
		const char *field;
	} cases[] = {
		{"abc", 5, false, "abc  "},
		{"abc", 5, true, "  abc"},
		{"abc", 3, true, "abc"},
		{"", 2, true, "  "},
		{"sentence-transformers", 10, false, "sent...ers"},
		{"abcdef", 3, false, "..."},
		{"abcdef", 1, false, "."},
		{"abcdef", 0, false, ""},
		{"parked 5.3 GiB", 8, false, "parked  "}, /* without its last words */
		{"parked 5.3 GiB", 12, false, "parked 5.3  "},
		{"parked 5.3 GiB", 14, false, "parked 5.3 GiB"},
		{"a bcdefghijk", 8, false, "a b...jk"}, /* not when little would be left */
	};
	char to[32];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(to, 'x', sizeof(to));
		vac_top_field(to, cases[i].text, cases[i].width, cases[i].right);
		assert_string_equal(to, cases[i].field);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_history), cmocka_unit_test(test_curves),
		cmocka_unit_test(test_tracks),  cmocka_unit_test(test_idleness),
		cmocka_unit_test(test_clean),   cmocka_unit_test(test_order),
		cmocka_unit_test(test_layout),  cmocka_unit_test(test_order_of_models),
		cmocka_unit_test(test_share),   cmocka_unit_test(test_scroll),
		cmocka_unit_test(test_cells),   cmocka_unit_test(test_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
