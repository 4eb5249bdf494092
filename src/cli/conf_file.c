/*
 * conf_file.c - vacate.conf, line by line. One thread.
 *
 * inih splits the lines: it knows comments, '=' and ':' and trims. What it does
 * not do is done while it is fed: its handler is not told the line, it keeps 49
 * bytes of a section's name, it reports only the first bad line, takes an
 * indented line for more of the value before, and cuts lines that are too long
 * in two. So each line is looked at before it is handed over; section heads are
 * kept here and not shown to inih at all.
 */
#include "cli/conf_file.h"

#include <ini.h>
#include <string.h>

#include "base/quote.h"

struct reading {
	struct vac_conf *conf;
	struct vac_problems *problems;
	struct vac_conf_section *current;
	const char *at, *end;
	uint32_t line;
	bool pair_expected; /* the line that inih has is no comment, blank or head */
	bool no_memory;
};

static void lost(struct reading *reading)
{
	reading->no_memory = true;
}

/* ---- sections ---- */

static void add_section(struct reading *reading, const char *kind, size_t kind_bytes,
			const char *name, size_t name_bytes)
{
	struct vac_conf *conf = reading->conf;
	struct vac_arena *arena = reading->problems->arena;
	struct vac_conf_section *section = vac_arena_alloc(arena, sizeof(*section));
	char *kind_copy = vac_arena_strndup(arena, kind, kind_bytes);
	char *name_copy = vac_arena_strndup(arena, name, name_bytes);

	if (!section || !kind_copy || !name_copy) {
		lost(reading);
		return;
	}
	*section = (struct vac_conf_section){
		.kind = kind_copy, .name = name_copy, .line = reading->line};
	section->last = &section->first;
	*conf->last = section;
	conf->last = &section->next;
	reading->current = section;
}

static size_t blanks(const char *text, size_t bytes)
{
	size_t n = 0;

	while (n < bytes && (text[n] == ' ' || text[n] == '\t'))
		n++;
	return n;
}

static size_t trimmed(const char *text, size_t bytes)
{
	while (bytes > 0 && (text[bytes - 1] == ' ' || text[bytes - 1] == '\t'))
		bytes--;
	return bytes;
}

/* "[kind]" or "[kind name]", and at most a comment behind it. A head that is wrong
 * still begins a section, so that what is in it is not taken for the one before. */
static void read_head(struct reading *reading, const char *text, size_t bytes)
{
	const char *close = memchr(text, ']', bytes);
	const char *inner = text + 1;
	size_t inner_bytes, kind_bytes = 0, rest;

	if (!close) {
		vac_problem_add(reading->problems, reading->line,
				"the head of a section has no ']'; write [server], [defaults] or "
				"[model NAME]");
		close = text + bytes;
	} else {
		const char *behind = close + 1;
		size_t behind_bytes = bytes - (size_t)(behind - text);

		rest = blanks(behind, behind_bytes);
		if (rest < behind_bytes && behind[rest] != ';' && behind[rest] != '#')
			vac_problem_add(reading->problems, reading->line,
					"there is text behind the ']' of a section; put it on a "
					"line of its own");
	}
	inner_bytes = (size_t)(close - inner);
	rest = blanks(inner, inner_bytes);
	inner += rest;
	inner_bytes = trimmed(inner, inner_bytes - rest);
	while (kind_bytes < inner_bytes && inner[kind_bytes] != ' ' && inner[kind_bytes] != '\t')
		kind_bytes++;
	rest = kind_bytes + blanks(inner + kind_bytes, inner_bytes - kind_bytes);
	add_section(reading, inner, kind_bytes, inner + rest, inner_bytes - rest);
}

/* ---- lines ---- */

/* Says what is wrong with the bytes of a line. */
static bool line_ok(struct reading *reading, const char *text, size_t bytes, size_t most)
{
	struct vac_problems *problems = reading->problems;

	if (bytes > most) {
		vac_problem_add(problems, reading->line,
				"the line is %zu bytes long, %zu are the most; give long lists on "
				"several lines",
				bytes, most);
		return false;
	}
	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c >= 0x20 && c != 0x7f)
			continue;
		if (c == '\t')
			continue;
		if (c == '\0')
			vac_problem_add(problems, reading->line,
					"byte %zu of the line is NUL; this is no text file", i + 1);
		else
			vac_problem_add(problems, reading->line,
					"byte %zu of the line is the control character 0x%02x; "
					"remove it (in quotes, \\n and \\t stand for two of them)",
					i + 1, c);
		return false;
	}
	if (!vac_utf8_valid(text, bytes)) {
		vac_problem_add(problems, reading->line,
				"the line is not UTF-8; save the file in that encoding");
		return false;
	}
	return true;
}

/* inih has had the line and saw no pair in it. */
static void check_pair(struct reading *reading)
{
	if (reading->pair_expected)
		vac_problem_add(reading->problems, reading->line,
				"there is no '=' in the line; write key = value, or begin a "
				"comment with '#'");
	reading->pair_expected = false;
}

static size_t next_line(struct reading *reading, const char **text)
{
	const char *from = reading->at;
	const char *feed = memchr(from, '\n', (size_t)(reading->end - from));
	const char *end = feed ? feed : reading->end;
	size_t bytes = (size_t)(end - from);

	reading->at = feed ? feed + 1 : reading->end;
	reading->line++;
	if (reading->line == 1 && bytes >= 3 && memcmp(from, "\xef\xbb\xbf", 3) == 0) {
		from += 3;
		bytes -= 3;
	}
	if (bytes > 0 && from[bytes - 1] == '\r')
		bytes--;
	*text = from;
	return bytes;
}

/* inih's reader: gives it one line, or an empty one where it is not to see it. */
static char *feed_line(char *to, int room, void *stream)
{
	struct reading *reading = stream;
	size_t most =
		(size_t)room - 3 < VAC_CONF_LINE_BYTES ? (size_t)room - 3 : VAC_CONF_LINE_BYTES;
	const char *text;
	size_t bytes, indent;

	check_pair(reading);
	if (reading->at == reading->end || reading->no_memory)
		return NULL;
	bytes = next_line(reading, &text);
	strcpy(to, "\n");
	if (!line_ok(reading, text, bytes, most))
		return to;
	indent = blanks(text, bytes);
	text += indent;
	bytes = trimmed(text, bytes - indent);
	if (bytes == 0 || *text == ';' || *text == '#')
		return to;
	if (*text == '[') {
		read_head(reading, text, bytes);
		return to;
	}
	reading->pair_expected = true;
	memcpy(to, text, bytes);
	memcpy(to + bytes, "\n", 2);
	return to;
}

/* ---- pairs ---- */

/* Takes the quotes off, in place. False: they are wrong. */
static bool unquote(struct reading *reading, const char *key, char *value)
{
	static const char names[] = "\"\\;nt", means[] = "\"\\;\n\t";
	const char *from = value + 1;
	char *to = value;

	while (*from && *from != '"') {
		const char *name;

		if (*from != '\\') {
			*to++ = *from++;
			continue;
		}
		name = from[1] ? strchr(names, from[1]) : NULL;
		if (!name) {
			vac_problem_add(
				reading->problems, reading->line,
				"%s: in quotes, a backslash stands before \", \\, ;, n or t "
				"only; write \\\\ for one",
				key);
			return false;
		}
		*to++ = means[name - names];
		from += 2;
	}
	if (*from != '"') {
		vac_problem_add(reading->problems, reading->line,
				"%s: the closing quote is missing (a ';' behind a blank begins a "
				"comment, even here: write \\;)",
				key);
		return false;
	}
	if (from[1]) {
		vac_problem_add(
			reading->problems, reading->line,
			"%s: there is text behind the closing quote; write \\\" for a quote "
			"inside",
			key);
		return false;
	}
	*to = '\0';
	return true;
}

/* inih's handler. Its section is not looked at: there is none. */
static int take_pair(void *user, const char *section, const char *key, const char *value)
{
	struct reading *reading = user;
	struct vac_arena *arena = reading->problems->arena;
	struct vac_conf_item *item = vac_arena_alloc(arena, sizeof(*item));
	char *key_copy = vac_arena_strndup(arena, key, strlen(key));
	char *value_copy = vac_arena_strndup(arena, value, strlen(value));

	(void)section;
	reading->pair_expected = false;
	if (!item || !key_copy || !value_copy) {
		lost(reading);
		return 1;
	}
	*item = (struct vac_conf_item){.key = key_copy, .value = value_copy, .line = reading->line};
	if (*value_copy == '"') {
		struct vac_quoted shown;

		item->quoted = true;
		if (!unquote(reading, vac_quote(&shown, key, strlen(key)), value_copy))
			return 1;
	}
	*reading->current->last = item;
	reading->current->last = &item->next;
	return 1;
}

int vac_conf_parse(struct vac_conf *conf, const char *text, size_t bytes,
		   struct vac_problems *problems, struct vac_error *err)
{
	struct reading reading = {
		.conf = conf, .problems = problems, .at = text, .end = text + bytes};
	int rc;

	*conf = (struct vac_conf){0};
	conf->last = &conf->first;
#ifdef VAC_INIH_TUNABLE
	/* Else its lines are as long as it was built for, and a longer one is a problem
	 * that says so. */
	ini_use_stack = false;
	ini_max_line = ini_initial_alloc = VAC_CONF_LINE_BYTES + 3;
#endif
	add_section(&reading, "", 0, "", 0);
	rc = reading.no_memory ? -2 : ini_parse_stream(feed_line, &reading, take_pair, &reading);
	if (rc == -2 || reading.no_memory || problems->no_memory)
		return vac_fail_nomem(err, "the configuration", bytes);
	return 0;
}
