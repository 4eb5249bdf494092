/*
 * test_vacate_conf.c - vacate.conf: every mistake with its line, what a right
 * file means, which source is the stronger, and that the tables say of their
 * defaults what the server does.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/config_read.h"
#include "temp_dir.h"

#define VAC_LONGEST 4096u /* bytes of a line, as vacate.conf(5) says */

static int set_up(void **state)
{
	(void)state;
	temp_dir_make();
	temp_text("models/org/one/config.json", "{}");
	temp_text("models/two/config.json", "{}");
	temp_mkdir("empty");
	temp_text("file", "x");
	unsetenv("VACATE_CONFIG");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

static struct vac_config *read_bytes(const char *text, size_t bytes)
{
	struct vac_config *config = NULL;
	struct vac_error err;

	temp_write("vacate.conf", text, bytes);
	assert_int_equal(vac_config_read_file(temp_path("vacate.conf"), &config, &err), 0);
	assert_non_null(config);
	return config;
}

static void show_problems(const struct vac_config *config)
{
	for (size_t i = 0; i < config->problems.count; i++)
		print_message("%u: %s\n", config->problems.items[i].line,
			      config->problems.items[i].message);
}

/* ---- mistakes ---- */

struct mistake {
	const char *text;
	uint32_t line;
	const char *what; /* part of the message */
	const char *todo; /* another part */
};

static const struct mistake mistakes[] = {
	/* lines */
	{"[server]\n\n# x\nport 8000\n", 4, "no '='", "key = value"},
	{"[server]\nport ; = 1\n", 2, "no '='", "'#'"},
	{"[server]\r\nport\r\n", 2, "no '='", "key = value"},
	{"[server\nport = 1\n", 1, "no ']'", "[server]"},
	{"[server] x\n", 1, "behind the ']'", "line of its own"},
	{"[server]\n\xff\xfe = 1\n", 2, "not UTF-8", "encoding"},
	{"[server]\nport = 1\x01\n", 2, "byte 9 of the line", "0x01"},
	{"[server]\nport = 80\r1\n", 2, "byte 10", "0x0d"},
	/* sections */
	{"port = 1\n", 1, "port stands in no section", "[server]"},
	{"[servr]\n", 1, "no section \"servr\"", "[server] meant"},
	{"[modle x]\n", 1, "no section \"modle\"", "[model NAME] meant"},
	{"[something]\n", 1, "no section \"something\"", "[guard] and"},
	{"[]\n", 1, "no section \"\"", "[model NAME]"},
	{"[server x]\n", 1, "[server] takes no name", "[model NAME]"},
	{"[model]\n", 1, "needs the name", "[model NAME]"},
	{"[model ../x]\n", 1, "not the name of a model", "\"org/name\""},
	{"[model a/b/c]\n", 1, "not the name of a model", "\"org/name\""},
	{"[server]\n[model a]\n[server]\n", 3, "begins in line 1 already", "one of the two"},
	{"[defaults]\n[model a]\n[defaults]\n", 3, "begins in line 1 already", "one of the two"},
	{"[model a]\n[model b]\n\n[model a]\n", 4, "[model a] begins in line 1", "one of the two"},
	/* keys */
	{"[server]\nkeep_alife = 1\n", 2, "no setting \"keep_alife\"", "keep_alive meant"},
	{"[server]\nmax-quue = 1\n", 2, "no setting \"max-quue\"", "max_queue meant"},
	{"[server]\nwhatever_it_is = 1\n", 2, "no setting \"whatever_it_is\"", "config show"},
	{"[server]\n= 1\n", 2, "no setting \"\"", "config show"},
	{"[server]\nconfig = x\n", 2, "no setting \"config\"", ""},
	{"[server]\nready_fd = 3\n", 2, "ready_fd is not set in a file", "--ready-fd"},
	{"[server]\nprompt = x\n", 2, "a setting of models", "[defaults]"},
	{"[server]\nalias = x\n", 2, "a setting of models", "[model NAME]"},
	{"[defaults]\nport = 1\n", 2, "a setting of the server", "[server]"},
	{"[defaults]\npath = /\n", 2, "of one model", "[model NAME]"},
	{"[defaults]\nprioriti = 1\n", 2, "[defaults] has no setting", "priority meant"},
	{"[model a]\nallias = b\n", 2, "[model] has no setting", "alias meant"},
	{"[model a]\nmin_res = b\n", 2, "[model] has no setting", "vacate.conf(5)"},
	{"[model a]\nmin_residen = b\n", 2, "[model] has no setting", "min_resident meant"},
	{"[server]\nport = 1\nport = 2\n", 3, "port was set in line 2", "remove one"},
	{"[server]\nmax_queue = 1\nmax-queue = 1\n", 3, "set in line 2", "remove one"},
	{"[model a]\npin = yes\npin = yes\n", 3, "pin was set in line 2", "remove one"},
	{"[server]\nkeep_alive = 1\n[defaults]\nkeep_alive = 1\n", 4, "set in line 2", "remove"},
	{"[defaults]\nkeep_alive = 1\n[server]\nkeep_alive = 1\n", 4, "set in line 2", "remove"},
	/* values */
	{"[server]\nkeep_alive = 5 minutes\n", 2, "takes a duration", "\"5 minutes\""},
	{"[server]\nkeep_alive =\n", 2, "takes a duration", "10m"},
	{"[model a]\nkeep_alive = never\n", 2, "takes a duration", "\"never\""},
	{"[server]\nport = 65536\n", 2, "0 to 65535", "\"65536\""},
	{"[server]\nport = 80 # web\n", 2, "0 to 65535", "begins with ';'"},
	{"[server]\nram = 101%\n", 2, "takes a share", "\"101%\""},
	{"[server]\nram = 0\n", 2, "more than 0", "\"0\""},
	{"[server]\nmax_body = 1x\n", 2, "KiB, MiB or GiB", "\"1x\""},
	{"[server]\nmax_body = 33MiB\n", 2, "1 to 32MiB", "34603008"},
	{"[server]\nmax_body = 0\n", 2, "more than 0", "\"0\""},
	{"[server]\nmax_queue = 0\n", 2, "more than 0", "\"0\""},
	{"[server]\nmax_inputs = 0\n", 2, "more than 0", "\"0\""},
	{"[server]\nmax_input = 0\n", 2, "more than 0", "\"0\""},
	{"[server]\nmax_connections = 0\n", 2, "more than 0", "\"0\""},
	{"[server]\ntimeout = 0\n", 2, "must not be 0", "\"0\""},
	{"[server]\nturn = -1\n", 2, "must not be negative", "\"-1\""},
	{"[server]\nheartbeat = 0\n", 2, "more than 0", "\"0\""},
	{"[server]\nmax_pending = 1MiB\nmax_body = 2MiB\n", 2, "less than max_body", "2097152"},
	{"[server]\nmax_body = 2MiB\nmax_pending = 1MiB\n", 3, "less than max_body", "2097152"},
	{"[server]\nmax_pending = 1MiB\n", 2, "less than --max-body", "16777216"},
	{"[server]\njournal_keep = 1000\n", 2, "takes at most 999 files", "not 1000"},
	{"[server]\nbackend = gpu\n", 2, "cpu or reference", "\"gpu\""},
	{"[server]\nlog_level = loud\n", 2, "error, warn, info or debug", "\"loud\""},
	{"[server]\nhost =\n", 2, "must not be empty", ""},
	{"[server]\nmodels = nowhere\n", 2, "nowhere\" cannot be used", "No such file"},
	{"[server]\nmodels = file\n", 2, "is no directory", "/file\""},
	{"[server]\nmodels = models\nmodels = models:nowhere\n", 3, "nowhere\"", "No such file"},
	{"[server]\npin = a, ../b\n", 2, "takes the name of a model", "\"a, ../b\""},
	{"[defaults]\ndevice = tpu\n", 2, "device takes auto, cpu, or a GPU", "\"tpu\""},
	{"[model a]\ndtype = int3\n", 2, "dtype takes float32", "\"int3\""},
	{"[model a]\nisolate = perhaps\n", 2, "isolate takes yes or no", "\"perhaps\""},
	{"[model a]\npriority = high\n", 2, "takes a number from -1000000", "\"high\""},
	{"[model a]\npriority = --1\n", 2, "takes a number from -1000000", "\"--1\""},
	{"[model a]\nmax_batch_tokens = 0\n", 2, "more than 0", "\"0\""},
	{"[model a]\nmin_resident = -1\n", 2, "must not be negative", "\"-1\""},
	/* quotes */
	{"[model a]\nprompt = \"x\n", 2, "closing quote is missing", "\\;"},
	{"[model a]\nprompt = \"x ; y\"\n", 2, "closing quote is missing", "\\;"},
	{"[model a]\nprompt = \"x\" y\n", 2, "behind the closing quote", "\\\""},
	{"[model a]\nprompt = \"x\\z\"\n", 2, "a backslash stands before", "\\\\"},
	/* names */
	{"[model a]\nalias = b\n[model b]\n", 2, "\"b\" is the name of the model in line 3",
	 "choose another"},
	{"[model a]\n\nalias = a\n", 3, "\"a\" is the name of the model in line 1", "another"},
	{"[model a]\nalias = x\n[model b]\nalias = y, x\n", 4,
	 "\"x\" is an alias of model a in "
	 "line 2",
	 "another"},
	{"[model a]\nalias = x\nalias = x\n", 3, "\"x\" is an alias of model a in line 2",
	 "another"},
	{"[model a]\nalias = x,,y\n", 2, "\"\" is not the name of a model", "\"org/name\""},
	{"[model a]\nalias = /etc\n", 2, "\"/etc\" is not the name of a model", "\"org/name\""},
	/* paths */
	{"[model a]\npath = nowhere\n", 2, "nowhere\" cannot be used", "No such file"},
	{"[model a]\npath = file\n", 2, "is no directory", "/file\""},
	{"[model a]\npath = empty\n", 2, "no config.json", "directory that holds"},
	{"[model a]\npath =\n", 2, "must not be empty", "directory"},
	{"[model a]\npath = models/two\npath = models/two\n", 3, "path was set in line 2",
	 "remove one"},
};

static void test_mistakes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		const struct mistake *mistake = &mistakes[i];
		struct vac_config *config = read_bytes(mistake->text, strlen(mistake->text));
		const struct vac_problem *problem = config->problems.items;

		/* A head without its end is also unknown, or there twice. */
		if (config->problems.count != 1 || problem->line != mistake->line ||
		    !strstr(problem->message, mistake->what) ||
		    !strstr(problem->message, mistake->todo)) {
			show_problems(config);
			fail_msg("of %s", mistake->text);
		}
		vac_config_free(config);
	}
}

static void test_nul(void **state)
{
	static const char text[] = "[server]\n#\na\0b = 1\n";
	struct vac_config *config = read_bytes(text, sizeof(text) - 1);

	(void)state;
	assert_int_equal(config->problems.count, 1);
	assert_int_equal(config->problems.items[0].line, 3);
	assert_non_null(strstr(config->problems.items[0].message, "byte 2 of the line is NUL"));
	vac_config_free(config);
}

static void test_long_lines(void **state)
{
	char text[3 * VAC_LONGEST];
	struct vac_config *config;
	size_t n;

	(void)state;
	/* The longest that is taken, and one byte more. */
	for (size_t more = 0; more < 2; more++) {
		n = (size_t)snprintf(text, sizeof(text), "[model a]\nprompt = ");
		memset(text + n, 'x', VAC_LONGEST - 9 + more);
		n += VAC_LONGEST - 9 + more;
		n += (size_t)snprintf(text + n, sizeof(text) - n, "\npin = yes\n");
		config = read_bytes(text, n);
		assert_int_equal(config->problems.count, more);
		if (more) {
			assert_int_equal(config->problems.items[0].line, 2);
			assert_non_null(strstr(config->problems.items[0].message,
					       "4097 bytes long, 4096 are the most"));
		} else {
			assert_int_equal(strlen(config->options.models[0].settings.prompt),
					 VAC_LONGEST - 9);
		}
		/* What follows is read all the same. */
		assert_true(config->options.models[0].settings.pin);
		vac_config_free(config);
	}
}

/* All of them, in order of their lines. */
static void test_all_mistakes_at_once(void **state)
{
	static const char text[] = "[server]\n"
				   "port = x\n"      /* 2 */
				   "nonsense\n"      /* 3 */
				   "max_queue = 0\n" /* 4 */
				   "[model a]\n"
				   "alias = b\n" /* 6 */
				   "also\n"      /* 7 */
				   "[model b]\n"
				   "pin = 7\n"   /* 9 */
				   "[model a]\n" /* 10 */
				   "path = nowhere";
	static const uint32_t lines[] = {2, 3, 4, 6, 7, 9, 10, 11};
	struct vac_config *config = read_bytes(text, strlen(text));

	(void)state;
	assert_int_equal(config->problems.count, sizeof(lines) / sizeof(lines[0]));
	for (size_t i = 0; i < config->problems.count; i++)
		assert_int_equal(config->problems.items[i].line, lines[i]);
	vac_config_free(config);
}

static void test_more_mistakes_than_are_kept(void **state)
{
	size_t count = VAC_PROBLEMS_MOST + 25;
	char *text = malloc(count * 2 + 1);
	struct vac_config *config;

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < count; i++)
		memcpy(text + 2 * i, "x\n", 2);
	config = read_bytes(text, count * 2);
	free(text);
	assert_int_equal(config->problems.count, VAC_PROBLEMS_MOST);
	assert_int_equal(config->problems.omitted, 25);
	vac_config_free(config);
}

static void test_no_file(void **state)
{
	struct vac_config *config;
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_config_read_file(temp_path("missing"), &config, &err), 0);
	assert_true(config->unreadable);
	assert_int_equal(config->problems.count, 1);
	assert_int_equal(config->problems.items[0].line, 0);
	assert_non_null(strstr(config->problems.items[0].message, "/missing"));
	vac_config_free(config);
	assert_int_equal(vac_config_read_file(temp_path("empty"), &config, &err), 0);
	assert_true(config->unreadable);
	vac_config_free(config);
}

/* ---- what is right ---- */

static const char good[] =
	"\xef\xbb\xbf# first\n"
	"[server]\r\n"
	"host = 0.0.0.0 ; everywhere\r\n"
	"  keep-alive = 90s\n"
	"max_queue: 7\n"
	"models = models\n"
	"models = models/org:empty\n"
	"journal = log/receipts\n"
	"pin = two, three\n"
	"pin = \"a, b\"\n"
	"\n"
	"[defaults]\n"
	"min_resident = 2s\n"
	"priority = -3\n"
	"prompt = plain\n"
	"[ model   org/one ]   ; the first\n"
	"path = models/org/one\n"
	"alias = text-embedding-3-small , org/alias\n"
	"alias = third\n"
	"keep_alive = -1\n"
	"prompt = \"query: \"\n"
	"isolate = true\n"
	"[model two]\n"
	"pin = no\n"
	"prompt = \"\"\n"
	"device = cpu\n"
	"dtype = float32\n"
	"max_batch_tokens = 4096\n"
	"[model sentence-transformers/a-name-that-is-longer-than-the-49-bytes-that-inih-keeps]\n"
	"prompt = \" \\\"a\\\" \\; \\\\ \\t\\n\"";

static void assert_two(const struct vac_server_model *two)
{
	assert_string_equal(two->name, "two");
	assert_null(two->path);
	assert_int_equal(two->alias_count, 0);
	/* Its own section is nearer than [server]. */
	assert_false(two->settings.pin);
	assert_null(two->settings.prompt);
	assert_int_equal(two->settings.keep_alive_ms, 90000);
	assert_string_equal(two->settings.device, "cpu");
	assert_string_equal(two->settings.dtype, "float32");
	assert_int_equal(two->settings.max_batch_tokens, 4096);
}

static void test_right_file(void **state)
{
	struct vac_config *config = read_bytes(good, sizeof(good) - 1);
	const struct vac_server_options *o = &config->options;
	const struct vac_server_model *one;

	(void)state;
	show_problems(config);
	assert_int_equal(config->problems.count, 0);
	assert_string_equal(o->host, "0.0.0.0");
	assert_int_equal(o->port, 8321);
	assert_int_equal(o->keep_alive_ms, 90000);
	assert_int_equal(o->max_queue, 7);
	assert_int_equal(o->model_dir_count, 3);
	assert_string_equal(o->model_dirs[0], temp_path("models"));
	assert_string_equal(o->model_dirs[1], temp_path("models/org"));
	assert_string_equal(o->model_dirs[2], temp_path("empty"));
	assert_string_equal(o->journal, temp_path("log/receipts"));
	assert_int_equal(o->model_defaults.keep_alive_ms, 90000);
	assert_int_equal(o->model_defaults.min_resident_ms, 2000);
	assert_int_equal(o->min_resident_ms, 2000);
	assert_int_equal(o->model_defaults.priority, -3);
	assert_string_equal(o->model_defaults.prompt, "plain");

	/* Three sections; "three" and "a, b" are only pinned. */
	assert_int_equal(o->model_count, 5);
	one = &o->models[0];
	assert_string_equal(one->name, "org/one");
	assert_string_equal(one->path, temp_path("models/org/one"));
	assert_int_equal(one->alias_count, 3);
	assert_string_equal(one->aliases[0], "text-embedding-3-small");
	assert_string_equal(one->aliases[1], "org/alias");
	assert_string_equal(one->aliases[2], "third");
	assert_int_equal(one->settings.keep_alive_ms, -1);
	assert_int_equal(one->settings.min_resident_ms, 2000);
	assert_int_equal(one->settings.priority, -3);
	assert_string_equal(one->settings.prompt, "query: ");
	assert_true(one->settings.isolate);
	assert_false(one->settings.pin);
	assert_two(&o->models[1]);
	assert_string_equal(o->models[2].name,
			    "sentence-transformers/"
			    "a-name-that-is-longer-than-the-49-bytes-that-inih-keeps");
	assert_string_equal(o->models[2].settings.prompt, " \"a\" ; \\ \t\n");
	assert_string_equal(o->models[3].name, "three");
	assert_true(o->models[3].settings.pin);
	assert_int_equal(o->models[3].settings.keep_alive_ms, 90000);
	assert_string_equal(o->models[4].name, "a, b");
	vac_config_free(config);
}

static void test_empty_files(void **state)
{
	static const char *const texts[] = {
		"", "\n", "# nothing", "\xef\xbb\xbf", "[server]", "[defaults]\n[server]\n"};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct vac_config *config = read_bytes(texts[i], strlen(texts[i]));

		assert_int_equal(config->problems.count, 0);
		assert_int_equal(config->options.port, 8321);
		assert_int_equal(config->options.model_count, 0);
		vac_config_free(config);
	}
}

/* ---- which source is the stronger ---- */

static const struct vac_setting *setting(const char *name)
{
	const struct vac_setting *found = vac_setting_find(
		vac_server_setting_table, vac_server_setting_count, name, strlen(name));

	assert_non_null(found);
	return found;
}

static struct vac_config *read_all(const struct vac_config_flag *flags, size_t count)
{
	struct vac_config *config;
	struct vac_error err;

	assert_int_equal(vac_config_read(flags, count, &config, &err), 0);
	return config;
}

static void assert_origin(const struct vac_config *config, const char *name, const char *origin)
{
	char text[VAC_ORIGIN_BYTES];
	const struct vac_setting *row = setting(name);

	vac_config_origin(config, row, &config->values[row - vac_server_setting_table], text);
	assert_string_equal(text, origin);
}

static void test_precedence(void **state)
{
	char at_2[512], at_3[512];
	struct vac_config_flag flags[] = {
		{setting("config"), temp_path("vacate.conf")},
		{setting("turn"), "4s"},
		{setting("models"), "/a:/b"},
		{setting("models"), "/c"},
		{setting("pin"), "flagged"},
	};
	struct vac_config *config;

	(void)state;
	temp_text("vacate.conf", "[server]\nturn = 2s\nmax_queue = 2\nmax_inputs = 2\n"
				 "models = models\npin = filed\n"
				 "[model flagged]\npin = no\n[model filed]\n");
	snprintf(at_2, sizeof(at_2), "%s:3", temp_path("vacate.conf"));
	snprintf(at_3, sizeof(at_3), "%s:4", temp_path("vacate.conf"));
	setenv("VACATE_TURN", "3s", 1);
	setenv("VACATE_MAX_INPUTS", "3", 1);
	setenv("VACATE_MODELS", "/d", 1);
	config = read_all(flags, 5);
	show_problems(config);
	assert_int_equal(config->problems.count, 0);
	assert_int_equal(config->options.turn_ms, 4000);
	assert_origin(config, "turn", "--turn");
	assert_int_equal(config->options.max_inputs, 3);
	assert_origin(config, "max-inputs", "VACATE_MAX_INPUTS");
	assert_int_equal(config->options.max_queue, 2);
	assert_origin(config, "max-queue", at_2);
	assert_int_equal(config->options.max_connections, 2048);
	assert_origin(config, "max-connections", "default");
	/* A list is replaced, not added to. */
	assert_int_equal(config->options.model_dir_count, 3);
	assert_string_equal(config->options.model_dirs[2], "/c");
	assert_int_equal(config->pin_count, 1);
	assert_true(config->options.models[0].settings.pin);
	assert_false(config->options.models[1].settings.pin);
	vac_config_free(config);

	unsetenv("VACATE_TURN");
	unsetenv("VACATE_MODELS");
	config = read_all(flags, 1);
	assert_int_equal(config->options.turn_ms, 2000);
	assert_int_equal(config->options.model_dir_count, 1);
	assert_false(config->options.models[0].settings.pin);
	assert_true(config->options.models[1].settings.pin);
	vac_config_free(config);
	unsetenv("VACATE_MAX_INPUTS");
}

static void test_mistakes_outside_the_file(void **state)
{
	struct vac_config_flag flags[] = {
		{setting("config"), "none"},
		{setting("port"), "x"},
		{setting("max-pending"), "1MiB"},
	};
	struct vac_config *config;

	(void)state;
	setenv("VACATE_MAX_QUEUE", "0", 1);
	config = read_all(flags, 3);
	unsetenv("VACATE_MAX_QUEUE");
	assert_null(config->path);
	assert_int_equal(config->problems.count, 3);
	assert_string_equal(config->problems.items[0].message,
			    "VACATE_MAX_QUEUE must be more than 0, not \"0\"");
	assert_string_equal(config->problems.items[1].message,
			    "--port takes a number from 0 to 65535, not \"x\"");
	assert_non_null(strstr(config->problems.items[2].message, "--max-pending (1048576 bytes)"));
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(config->problems.items[i].line, 0);
	vac_config_free(config);
}

static void test_where_the_file_is_looked_for(void **state)
{
	struct vac_config_flag none = {setting("config"), "none"};
	struct vac_config *config;

	(void)state;
	temp_text("xdg/vacate/vacate.conf", "[server]\nport = 1\n");
	temp_text("home/.config/vacate/vacate.conf", "[server]\nport = 2\n");
	temp_text("named.conf", "[server]\nport = 3\n");
	setenv("HOME", temp_path("home"), 1);
	setenv("XDG_CONFIG_HOME", temp_path("xdg"), 1);
	config = read_all(NULL, 0);
	assert_int_equal(config->options.port, 1);
	vac_config_free(config);
	unsetenv("XDG_CONFIG_HOME");
	config = read_all(NULL, 0);
	assert_int_equal(config->options.port, 2);
	vac_config_free(config);
	setenv("VACATE_CONFIG", temp_path("named.conf"), 1);
	config = read_all(NULL, 0);
	assert_int_equal(config->options.port, 3);
	vac_config_free(config);
	config = read_all(&none, 1);
	assert_int_equal(config->options.port, 8321);
	vac_config_free(config);
	unsetenv("VACATE_CONFIG");
}

/* ---- the tables ---- */

static void test_defaults_are_what_they_say(void **state)
{
	struct vac_server_options standard, filled;

	(void)state;
	vac_server_defaults(&standard);
	for (size_t i = 0; i < vac_server_setting_count; i++) {
		const struct vac_setting *row = &vac_server_setting_table[i];
		char first[64];

		if (!row->standard)
			continue;
		vac_server_defaults(&filled);
		memset((char *)&filled + row->at, 0x5a, 1);
		assert_null(vac_setting_fill(row, &filled, row->standard));
		if (!vac_setting_same(row, &standard, &filled))
			fail_msg("the default of %s is not %s", row->name, row->standard);
		snprintf(first, sizeof(first), "(%s)", row->standard);
		if (!strstr(row->help, first))
			fail_msg("the help of %s does not say %s", row->name, first);
	}
}

static void test_names(void **state)
{
	char text[VAC_VARIABLE_BYTES];

	(void)state;
	assert_ptr_equal(setting("keep_alive"), setting("keep-alive"));
	assert_null(vac_setting_find(vac_server_setting_table, vac_server_setting_count, "por", 3));
	assert_null(
		vac_setting_find(vac_server_setting_table, vac_server_setting_count, "portx", 5));
	vac_setting_variable(setting("keep-alive"), text);
	assert_string_equal(text, "VACATE_KEEP_ALIVE");
	vac_setting_key(setting("keep-alive"), text);
	assert_string_equal(text, "keep_alive");
}

static const char *next_word(const void *ctx, size_t i)
{
	const char *const *words = ctx;

	return words[i];
}

static void test_nearest(void **state)
{
	static const char *const words[] = {"alias", "keep-alive", "path", "pin", "port", NULL};
	static const struct {
		const char *word, *nearest;
	} cases[] = {
		{"alias", "alias"},
		{"alais", "alias"},
		{"keepalive", "keep-alive"},
		{"keep_alive", "keep-alive"},
		{"pinn", "pin"},
		{"prt", "port"},
		{"poth", "path"},
		{"x", NULL},
		{"", NULL},
		{"keep", NULL},
		{"nothing-near", NULL},
		{"a-word-that-is-much-longer-than-any-name-of-a-setting", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *nearest = vac_nearest(cases[i].word, next_word, words);

		if (cases[i].nearest)
			assert_string_equal(nearest, cases[i].nearest);
		else
			assert_null(nearest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_all_mistakes_at_once),
		cmocka_unit_test(test_more_mistakes_than_are_kept),
		cmocka_unit_test(test_no_file),
		cmocka_unit_test(test_right_file),
		cmocka_unit_test(test_empty_files),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_mistakes_outside_the_file),
		cmocka_unit_test(test_where_the_file_is_looked_for),
		cmocka_unit_test(test_defaults_are_what_they_say),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_nearest),
	};

	return cmocka_run_group_tests_name("vacate_conf", tests, set_up, tear_down);
}
