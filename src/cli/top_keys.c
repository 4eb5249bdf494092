/* top_keys.c - what the keys of `vacate top` do; see top.h. */
#include "cli/top.h"

#include <curses.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"

#define NS_PER_MS  1000000
#define KEY_ESCAPE 27
#define KEY_DELETE 127
#define KEY_CUT    ('u' & 0x1f)
#define PAGE_ROWS  10

static const char help[] =
	"Keys\n"
	"  arrows, j, k   choose a model or a process (Home, End, page keys)\n"
	"  p   park: the process, or the model with its worker, leaves its GPU,\n"
	"      into its own RAM\n"
	"  r   resume: it comes back, if its room is free\n"
	"  l   load a model of the server (asks for its name)\n"
	"  u   unload the chosen model\n"
	"  d   the process in full, as `vacate ps PID` shows it\n"
	"  v m g i n   order by VRAM, RAM (memory), GPU use, idleness, name;\n"
	"              once more: the other way round\n"
	"  ?   this help       q   quit\n"
	"Actions ask first (y: do it) and run beside the view.\n"
	"\n"
	"What is shown\n"
	"  Curves have one column a refresh, the newest on the right: VRAM of a\n"
	"  GPU against its whole, of a process against its own most; GPU use\n"
	"  against 100%. A blank is not known.\n"
	"  IDLE: how long without use of the GPU. >: at least, since it was so\n"
	"  when the view (or NVML's memory) began.\n"
	"  UNACCOUNTED: used, and by no process that NVML lists.\n"
	"  VRAM of a model is its plan, of a process what NVML says.\n";

static void VAC_PRINTF(3, 4) say(struct vac_top *top, enum vac_color color, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(top->message, sizeof(top->message), format, ap);
	va_end(ap);
	vac_top_clean(top->message, sizeof(top->message), top->message);
	top->message_color = color;
}

/* ---- what is chosen ---- */

static size_t count_of(const struct vac_top *top, enum vac_top_section section)
{
	if (section == VAC_TOP_MODELS)
		return top->server ? top->server->model_count : 0;
	return top->machine ? top->machine->process_count : 0;
}

const struct vac_top_process *vac_top_chosen_process(const struct vac_top *top)
{
	if (top->chosen != VAC_TOP_PROCESSES || top->index >= count_of(top, VAC_TOP_PROCESSES))
		return NULL;
	return &top->machine->processes[top->index];
}

const struct vac_top_model *vac_top_chosen_model(const struct vac_top *top)
{
	if (top->chosen != VAC_TOP_MODELS || top->index >= count_of(top, VAC_TOP_MODELS))
		return NULL;
	return &top->server->models[top->index];
}

/* At most the last; the other list where this one is empty. */
static void clamp(struct vac_top *top)
{
	size_t count = count_of(top, top->chosen);

	if (count == 0) {
		top->chosen = top->chosen == VAC_TOP_MODELS ? VAC_TOP_PROCESSES : VAC_TOP_MODELS;
		count = count_of(top, top->chosen);
		top->index = 0;
	}
	if (top->index >= count)
		top->index = count > 0 ? count - 1 : 0;
}

static void remember(struct vac_top *top)
{
	const struct vac_top_process *process = vac_top_chosen_process(top);
	const struct vac_top_model *model = vac_top_chosen_model(top);

	top->chosen_pid = process ? process->shown_pid : 0;
	top->chosen_name[0] = '\0';
	if (model)
		memcpy(top->chosen_name, model->exact, sizeof(top->chosen_name));
}

void vac_top_settle(struct vac_top *top)
{
	if (top->machine)
		vac_top_sort_processes(top->machine->processes, top->machine->process_count,
				       top->order, top->reversed);
	if (top->server)
		vac_top_sort_models(top->server->models, top->server->model_count, top->order,
				    top->reversed);
	for (size_t i = 0; i < count_of(top, top->chosen); i++) {
		if (top->chosen == VAC_TOP_MODELS
			    ? strcmp(top->server->models[i].exact, top->chosen_name) == 0
			    : top->machine->processes[i].shown_pid == top->chosen_pid) {
			top->index = i;
			break;
		}
	}
	clamp(top);
	remember(top);
}

/* Up and down through both lists, models first. */
static void move_by(struct vac_top *top, int rows)
{
	size_t models = count_of(top, VAC_TOP_MODELS);
	size_t all = models + count_of(top, VAC_TOP_PROCESSES);
	size_t at = top->index + (top->chosen == VAC_TOP_PROCESSES ? models : 0);

	if (all == 0)
		return;
	if (rows < 0)
		at = (size_t)-rows < at ? at - (size_t)-rows : 0;
	else
		at = at + (size_t)rows < all ? at + (size_t)rows : all - 1;
	top->chosen = at < models ? VAC_TOP_MODELS : VAC_TOP_PROCESSES;
	top->index = at < models ? at : at - models;
	remember(top);
}

static void order_by(struct vac_top *top, enum vac_top_order order)
{
	top->reversed = top->order == order && !top->reversed;
	top->order = order;
	vac_top_settle(top);
	say(top, VAC_COLOR_NONE, "ordered by %s%s", vac_top_order_name(order),
	    top->reversed ? ", the other way round" : "");
}

/* ---- texts ---- */

static void show_text(struct vac_top *top, const char *title, const char *text)
{
	free(top->text);
	top->text = strdup(text);
	top->text_first = 0;
	snprintf(top->title, sizeof(top->title), "%s", title);
	top->mode = VAC_TOP_TEXT;
}

static void leave_text(struct vac_top *top)
{
	free(top->text);
	top->text = NULL;
	vac_top_child_leave(&top->details);
	top->mode = VAC_TOP_LIST;
}

static void show_details(struct vac_top *top)
{
	const struct vac_top_process *process = vac_top_chosen_process(top);
	const struct vac_top_model *model = vac_top_chosen_model(top);
	pid_t pid = process ? process->pid : model && top->watches_machine ? model->worker : 0;
	char number[32], title[64];
	const char *const words[] = {"ps", number, NULL};
	struct vac_error err;

	if (pid == 0) {
		say(top, VAC_COLOR_YELLOW,
		    process ? "that process cannot be seen from here"
			    : "no process is chosen, and no model that is on one of this machine");
		return;
	}
	snprintf(number, sizeof(number), "%d", (int)pid);
	snprintf(title, sizeof(title), "process %d", (int)pid);
	vac_top_child_leave(&top->details);
	if (vac_top_child_start(&top->details, words, true, vac_top_screen_columns(), &err) < 0) {
		say(top, VAC_COLOR_RED, "%s", err.message);
		return;
	}
	show_text(top, title, "looking ...");
}

static void text_key(struct vac_top *top, int key)
{
	size_t page = top->text_page > 1 ? top->text_page - 1 : 1;

	switch (key) {
	case 'j':
	case KEY_DOWN:
		top->text_first++;
		break;
	case 'k':
	case KEY_UP:
		top->text_first -= top->text_first > 0;
		break;
	case ' ':
	case KEY_NPAGE:
		top->text_first += page;
		break;
	case KEY_PPAGE:
		top->text_first -= top->text_first < page ? top->text_first : page;
		break;
	case KEY_HOME:
		top->text_first = 0;
		break;
	default:
		leave_text(top);
		break;
	}
}

/* ---- actions ---- */

static void VAC_PRINTF(2, 3) ask(struct vac_top *top, const char *format, ...)
{
	char text[VAC_TOP_MESSAGE_BYTES];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	say(top, VAC_COLOR_BOLD, "%s [y/n]", text);
	top->mode = VAC_TOP_CONFIRM;
}

static bool is_busy(struct vac_top *top)
{
	if (top->child.pid == 0)
		return false;
	say(top, VAC_COLOR_YELLOW, "%s %s is not done yet", top->running.verb, top->running.object);
	return true;
}

static void ask_process(struct vac_top *top, const char *verb)
{
	const struct vac_top_process *process = vac_top_chosen_process(top);
	char bytes[VAC_TEXT_BYTES];

	if (is_busy(top))
		return;
	if (!process || process->pid == 0) {
		say(top, VAC_COLOR_YELLOW,
		    process ? "that process cannot be seen from here" : "no process is chosen");
		return;
	}
	top->action =
		(struct vac_top_action){.pid = process->pid, .start_ticks = process->start_ticks};
	snprintf(top->action.verb, sizeof(top->action.verb), "%s", verb);
	snprintf(top->action.object, sizeof(top->action.object), "%d", (int)process->pid);
	if (strcmp(verb, "park") == 0)
		ask(top,
		    "park %d (%s, %s)? To come back it needs that room again; should another "
		    "program take it in the moment of the restore, it is lost.",
		    (int)process->pid, process->what,
		    process->vram_valid ? vac_format_bytes(bytes, process->vram_bytes)
					: "not known how much");
	else
		ask(top, "%s %d (%s)?", verb, (int)process->pid, process->what);
}

static void ask_model(struct vac_top *top, const char *verb)
{
	const struct vac_top_model *model = vac_top_chosen_model(top);

	if (is_busy(top))
		return;
	if (!model) {
		say(top, VAC_COLOR_YELLOW, "no model is chosen");
		return;
	}
	top->action = (struct vac_top_action){0};
	snprintf(top->action.verb, sizeof(top->action.verb), "%s", verb);
	snprintf(top->action.object, sizeof(top->action.object), "%s", model->exact);
	if (strcmp(verb, "park") == 0)
		ask(top, "park %s, and what else its worker %d has? A request brings it back.",
		    model->name, (int)model->worker);
	else
		ask(top, "%s %s?", verb, model->name);
}

static void ask_move(struct vac_top *top, const char *verb)
{
	if (vac_top_chosen_model(top))
		ask_model(top, verb);
	else
		ask_process(top, verb);
}

static void ask_name(struct vac_top *top)
{
	if (is_busy(top))
		return;
	if (!top->server_text) {
		say(top, VAC_COLOR_YELLOW, "there is no server to load it");
		return;
	}
	top->input[0] = '\0';
	top->mode = VAC_TOP_ASK_NAME;
}

static void ask_quit(struct vac_top *top)
{
	if (top->child.pid == 0) {
		top->leaving = true;
		return;
	}
	top->action = (struct vac_top_action){.verb = "quit"};
	ask(top, "%s %s is not done yet, and goes on without this view. Quit?", top->running.verb,
	    top->running.object);
}

static bool still_there(const struct vac_top *top, const struct vac_top_action *action)
{
	for (size_t i = 0; i < count_of(top, VAC_TOP_PROCESSES); i++) {
		const struct vac_top_process *process = &top->machine->processes[i];

		if (process->pid == action->pid && process->start_ticks == action->start_ticks)
			return true;
	}
	return false;
}

static void act(struct vac_top *top)
{
	const struct vac_top_action *action = &top->action;
	const char *words[8];
	struct vac_error err;
	size_t n = 0;

	if (strcmp(action->verb, "quit") == 0) {
		top->leaving = true;
		return;
	}
	if (action->pid > 0 && !still_there(top, action)) {
		say(top, VAC_COLOR_YELLOW, "process %s has ended", action->object);
		return;
	}
	words[n++] = action->verb;
	if (action->pid == 0 && top->server_option) {
		words[n++] = "--server";
		words[n++] = top->server_option;
	}
	if (action->pid == 0 && top->keys_option) {
		words[n++] = "--api-key-file";
		words[n++] = top->keys_option;
	}
	words[n++] = "--";
	words[n++] = action->object;
	words[n] = NULL;
	vac_top_child_leave(&top->child);
	top->running = *action;
	if (vac_top_child_start(&top->child, words, false, 200, &err) < 0)
		say(top, VAC_COLOR_RED, "%s", err.message);
	else
		say(top, VAC_COLOR_NONE, "%s %s ...", action->verb, action->object);
}

static void name_key(struct vac_top *top, int key)
{
	size_t length = strlen(top->input);

	if (key == KEY_ESCAPE) {
		top->mode = VAC_TOP_LIST;
	} else if (key == '\n' || key == '\r' || key == KEY_ENTER) {
		top->mode = VAC_TOP_LIST;
		if (length == 0)
			return;
		top->action = (struct vac_top_action){.verb = "load"};
		memcpy(top->action.object, top->input, sizeof(top->input));
		ask(top, "load %s?", top->input);
	} else if (key == KEY_BACKSPACE || key == KEY_DELETE || key == '\b') {
		if (length > 0)
			top->input[length - 1] = '\0';
	} else if (key == KEY_CUT) {
		top->input[0] = '\0';
	} else if (key >= ' ' && key <= '~' && length + 1 < sizeof(top->input)) {
		top->input[length] = (char)key;
		top->input[length + 1] = '\0';
	}
}

static void list_key(struct vac_top *top, int key)
{
	switch (key) {
	case 'q':
		ask_quit(top);
		break;
	case 'j':
	case KEY_DOWN:
		move_by(top, 1);
		break;
	case 'k':
	case KEY_UP:
		move_by(top, -1);
		break;
	case KEY_NPAGE:
		move_by(top, PAGE_ROWS);
		break;
	case KEY_PPAGE:
		move_by(top, -PAGE_ROWS);
		break;
	case KEY_HOME:
		move_by(top, -INT32_MAX);
		break;
	case KEY_END:
		move_by(top, INT32_MAX);
		break;
	case 'v':
		order_by(top, VAC_TOP_BY_VRAM);
		break;
	case 'm':
		order_by(top, VAC_TOP_BY_RAM);
		break;
	case 'g':
		order_by(top, VAC_TOP_BY_GPU);
		break;
	case 'i':
		order_by(top, VAC_TOP_BY_IDLE);
		break;
	case 'n':
		order_by(top, VAC_TOP_BY_NAME);
		break;
	case 'p':
		ask_move(top, "park");
		break;
	case 'r':
		ask_move(top, "resume");
		break;
	case 'u':
		ask_model(top, "unload");
		break;
	case 'l':
		ask_name(top);
		break;
	case 'd':
		show_details(top);
		break;
	case '?':
	case 'h':
		show_text(top, "vacate top", help);
		break;
	default:
		break;
	}
}

void vac_top_key(struct vac_top *top, int key)
{
	switch (top->mode) {
	case VAC_TOP_ASK_NAME:
		name_key(top, key);
		break;
	case VAC_TOP_CONFIRM:
		top->mode = VAC_TOP_LIST;
		top->message[0] = '\0';
		if (key == 'y' || key == 'Y')
			act(top);
		break;
	case VAC_TOP_TEXT:
		text_key(top, key);
		break;
	default:
		/* What was said has been read. */
		if (top->child.pid == 0)
			top->message[0] = '\0';
		list_key(top, key);
		break;
	}
}

/* ---- children ---- */

/* A line that it wrote, the first or the last, without the "vacate park: " in front: the
 * first says why it failed, the last what it is at. */
static void take_line(const struct vac_top *top, char *to, size_t room, bool last)
{
	const struct vac_buf *out = &top->child.out;
	size_t from = 0, end = 0, prefix;
	char start[32];

	for (size_t i = 0; i < out->bytes; i++) {
		if (out->data[i] != '\n' && out->data[i] != '\r')
			end = i + 1;
		else if (end > from && !last)
			break;
		else if (i + 1 < out->bytes)
			from = i + 1;
	}
	snprintf(start, sizeof(start), "vacate %s: ", top->running.verb);
	prefix = strlen(start);
	if (end > from + prefix && memcmp(out->data + from, start, prefix) == 0)
		from += prefix;
	end = end > from ? end : from;
	if (end - from >= room)
		end = from + room - 1;
	if (end > from)
		memcpy(to, out->data + from, end - from);
	to[end - from] = '\0';
}

static void attend_action(struct vac_top *top)
{
	int64_t begun_ns = top->child.begun_ns;
	char text[VAC_TOP_MESSAGE_BYTES - 128], took[VAC_TEXT_BYTES];
	const char *object = top->running.object;
	int status;

	if (vac_top_child_read(&top->child) && top->mode == VAC_TOP_LIST) {
		take_line(top, text, sizeof(text), true);
		say(top, VAC_COLOR_NONE, "%s %.80s ... %s", top->running.verb, object, text);
	}
	if (!vac_top_child_ended(&top->child, &status))
		return;
	vac_format_ms(took, (vac_now_ns() - begun_ns) / NS_PER_MS);
	take_line(top, text, sizeof(text), false);
	/* A question on the line is more urgent, unless it asked whether to wait. */
	if (top->mode == VAC_TOP_CONFIRM && strcmp(top->action.verb, "quit") == 0)
		top->mode = VAC_TOP_LIST;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		say(top, VAC_COLOR_GREEN, "%s %.80s: done in %s", top->running.verb, object, took);
	else if (text[0])
		say(top, VAC_COLOR_RED, "%s %.80s: %s", top->running.verb, object, text);
	else
		say(top, VAC_COLOR_RED, "%s %.80s ended with %s %d", top->running.verb, object,
		    WIFEXITED(status) ? "status" : "signal",
		    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	vac_top_child_leave(&top->child);
	vac_top_feed_hurry(top->feed);
}

void vac_top_attend(struct vac_top *top)
{
	int status;

	if (top->child.pid > 0)
		attend_action(top);
	if (top->details.pid == 0)
		return;
	(void)vac_top_child_read(&top->details);
	if (!vac_top_child_ended(&top->details, &status))
		return;
	vac_buf_putc(&top->details.out, '\0');
	if (top->mode == VAC_TOP_TEXT && vac_buf_ok(&top->details.out)) {
		free(top->text);
		top->text = strdup((const char *)top->details.out.data);
	}
	vac_top_child_leave(&top->details);
}
