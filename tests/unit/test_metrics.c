/*
 * test_metrics.c - Prometheus text: what promtool's lint and the format's
 * grammar ask (https://prometheus.io/docs/instrumenting/exposition_formats/).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/state.h"

static void test_samples(void **state)
{
	struct vac_buf buf = VAC_BUF_INIT;

	(void)state;
	vac_metrics_head(&buf, "x_total", "counter", "Help.");
	vac_metrics_sample(&buf, "x_total", NULL, NULL, 0);
	vac_metrics_sample(&buf, "x_total", "model", "a\\b\"c\nd", 3);
	/* Every digit of a whole number: 2^53 - 1 and a gigabyte. */
	vac_metrics_sample(&buf, "x_total", NULL, NULL, 9007199254740991.0);
	vac_metrics_sample(&buf, "x_total", NULL, NULL, 1073741824);
	vac_metrics_sample(&buf, "x_total", NULL, NULL, 0.125);
	vac_buf_putc(&buf, '\0');
	assert_true(vac_buf_ok(&buf));
	assert_string_equal((char *)buf.data, "# HELP x_total Help.\n"
					      "# TYPE x_total counter\n"
					      "x_total 0\n"
					      "x_total{model=\"a\\\\b\\\"c\\nd\"} 3\n"
					      "x_total 9007199254740991\n"
					      "x_total 1073741824\n"
					      "x_total 0.125\n");
	vac_buf_free(&buf);
}

static void test_histogram(void **state)
{
	struct vac_histogram histogram = {0};
	struct vac_buf buf = VAC_BUF_INIT;
	const char *text;

	(void)state;
	vac_histogram_add(&histogram, 100000);       /* 0.1 ms: on a bound, so inside */
	vac_histogram_add(&histogram, 100001);       /* just beyond it */
	vac_histogram_add(&histogram, 2000000000);   /* 2 s */
	vac_histogram_add(&histogram, 100000000000); /* beyond all bounds */
	vac_metrics_histogram(&buf, "t_seconds", "Help.", &histogram);
	vac_buf_putc(&buf, '\0');
	text = (const char *)buf.data;
	assert_non_null(strstr(text, "# TYPE t_seconds histogram\n"));
	assert_non_null(strstr(text, "t_seconds_bucket{le=\"0.0001\"} 1\n"));
	assert_non_null(strstr(text, "t_seconds_bucket{le=\"0.00025\"} 2\n"));
	assert_non_null(strstr(text, "t_seconds_bucket{le=\"1\"} 2\n"));
	assert_non_null(strstr(text, "t_seconds_bucket{le=\"5\"} 3\n"));
	assert_non_null(strstr(text, "t_seconds_bucket{le=\"30\"} 3\n"));
	assert_non_null(strstr(text, "t_seconds_bucket{le=\"+Inf\"} 4\n"));
	assert_non_null(strstr(text, "t_seconds_sum 102.000200001\n"));
	assert_non_null(strstr(text, "t_seconds_count 4\n"));
	vac_buf_free(&buf);
}

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

/* A name is declared once, before its samples, with a type that fits its end. */
static void check_type_line(const char *line, const char *text, char *name)
{
	char type[32], declaration[160];
	const char *first;

	assert_int_equal(sscanf(line, "# TYPE %127s %31s", name, type), 2);
	snprintf(declaration, sizeof(declaration), "# TYPE %s ", name);
	first = strstr(text, declaration);
	assert_non_null(first);
	assert_null(strstr(first + 1, declaration));
	assert_memory_equal(name, "vacate_", 7);
	assert_int_equal(strcmp(type, "counter") == 0, ends_with(name, "_total"));
	if (strcmp(type, "histogram") == 0)
		assert_true(ends_with(name, "_seconds"));
	assert_null(strstr(name, "_ms"));
	assert_null(strstr(name, "_mib"));
}

static void check_sample(const char *line, const char *name)
{
	const char *space = strrchr(line, ' ');
	char *end;

	assert_memory_equal(line, name, strlen(name));
	assert_non_null(space);
	strtod(space + 1, &end);
	assert_int_equal(*end, '\0');
	assert_true(end > space + 1);
}

/* With a model of an awkward name, so that all kinds of samples are there. */
static void measure(void *ctx, struct vac_budget_room *out)
{
	(void)ctx;
	*out = (struct vac_budget_room){.total_valid = true,
					.free_valid = true,
					.total_bytes = UINT64_C(1) << 30,
					.free_bytes = UINT64_C(1) << 29};
}

static void test_all(void **state)
{
	struct vac_server *server = calloc(1, sizeof(*server));
	struct vac_model model = {.name = strdup("org/\"x\"\n"), .loads = 2, .tasks = 7};
	struct vac_buf buf = VAC_BUF_INIT;
	char name[128] = "?", *copy, *save = NULL;
	int samples = 0;

	(void)state;
	assert_non_null(server);
	vac_device_init(&server->devices[0], "cpu", "--ram");
	vac_device_limit(&server->devices[0], false,
			 &(struct vac_size){.is_share = true, .share = 0.5},
			 &(struct vac_size){.is_share = true, .share = 0.25}, measure, NULL);
	vac_device_init(&server->devices[1], "other", "--other");
	server->device_count = 2;
	server->devices[1].evictions = 3;
	server->registry.models = &model;
	server->journal.path = "journal";
	server->access = (struct vac_access){.path = "keys", .missing = 3, .wrong = 4};
	vac_metrics_reply(&server->metrics, 200);
	vac_metrics_reply(&server->metrics, 99999); /* no such status: not counted */
	vac_metrics_write(server, &buf);
	vac_buf_putc(&buf, '\0');
	assert_true(vac_buf_ok(&buf));
	assert_non_null(
		strstr((char *)buf.data, "\nvacate_loads_total{model=\"org/\\\"x\\\"\\n\"} 2\n"));
	assert_non_null(strstr((char *)buf.data, "\nvacate_http_replies_total{code=\"200\"} 1\n"));
	assert_non_null(
		strstr((char *)buf.data, "\nvacate_budget_bytes{device=\"cpu\"} 536870912\n"));
	/* No budget, so none is told. */
	assert_null(strstr((char *)buf.data, "vacate_budget_bytes{device=\"other\"}"));
	assert_non_null(strstr((char *)buf.data, "\nvacate_evictions_total{device=\"other\"} 3\n"));
	assert_non_null(strstr((char *)buf.data,
			       "\nvacate_key_refusals_total{reason=\"missing\"} 3\n"
			       "vacate_key_refusals_total{reason=\"wrong\"} 4\n"));
	assert_int_equal(buf.data[buf.bytes - 2], '\n');
	copy = strdup((char *)buf.data);
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (strncmp(line, "# TYPE ", 7) == 0) {
			check_type_line(line, (char *)buf.data, name);
		} else if (strncmp(line, "# HELP ", 7) == 0) {
			assert_true(ends_with(line, "."));
		} else {
			check_sample(line, name);
			samples++;
		}
	}
	assert_true(samples > 40);
	free(copy);
	free(model.name);
	free(server);
	vac_buf_free(&buf);
}

static void test_unloads_are_summed(void **state)
{
	struct vac_metrics metrics = {0};
	struct vac_receipt receipt = {
		.reason = VAC_UNLOAD_IDLE,
		.unload_ns = 5000000,
		.ledger_bytes = 1000,
		.worker_before = {.valid = true, .uss_bytes = 5000},
		.worker_after = {.valid = true, .uss_bytes = 4100},
	};

	(void)state;
	vac_metrics_unload(&metrics, &receipt);
	receipt.worker_before.valid = false; /* unknown is not 0, and not counted */
	vac_metrics_unload(&metrics, &receipt);
	assert_int_equal(metrics.unloads[VAC_UNLOAD_IDLE], 2);
	assert_int_equal(metrics.returned_bytes, 900);
	assert_int_equal(metrics.unaccounted_bytes, 100);
	assert_int_equal(metrics.unload.count, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_histogram),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_unloads_are_summed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
