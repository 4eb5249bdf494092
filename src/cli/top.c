/*
 * top.c - `vacate top`: what `vacate ps` shows, live. This thread draws and reads keys
 * and waits for nothing else; those of top_feed.c gather. docs/who.md.
 */
#include "cli/top.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "base/clock.h"

#define NS_PER_MS         1000000
#define DEFAULT_MS        1000
#define LEAST_MS          100
#define MOST_MS           3600000
#define SERVER_TIMEOUT_MS 2000
#define REDRAW_MS         1000 /* ages of what does not come */
#define ACTION_REDRAW_MS  250
#define MOST_EMPTY_READS  3
#define ARGUMENTS         64

static int signal_pipe[2] = {-1, -1};

static void on_signal(int number)
{
	unsigned char byte = (unsigned char)number;
	int saved = errno;

	/* Full, somebody is told already. */
	(void)!write(signal_pipe[1], &byte, 1);
	errno = saved;
}

/* Before curses, which would set handlers of its own for some. */
static int catch_signals(struct vac_error *err)
{
	static const int numbers[] = {SIGINT,  SIGTERM, SIGHUP,   SIGQUIT,
				      SIGTSTP, SIGCONT, SIGWINCH, SIGCHLD};
	const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	struct sigaction before;

	if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return vac_fail_errno(err, errno, "a pipe cannot be made");
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		/* nohup, and shells without job control, want them ignored. */
		if ((numbers[i] == SIGHUP || numbers[i] == SIGTSTP || numbers[i] == SIGINT) &&
		    sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler == SIG_IGN)
			continue;
		sigaction(numbers[i], &action, NULL);
	}
	return 0;
}

/* Stops as the shell expects it, with the terminal given back. */
static void stop(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL}, before;

	vac_top_screen_suspend();
	sigaction(SIGTSTP, &action, &before);
	raise(SIGTSTP);
	sigaction(SIGTSTP, &before, NULL);
	vac_top_screen_again();
}

static void handle_signals(struct vac_top *top)
{
	unsigned char byte;

	while (read(signal_pipe[0], &byte, 1) == 1) {
		switch (byte) {
		case SIGINT:
		case SIGTERM:
		case SIGHUP:
		case SIGQUIT:
			top->signal = byte;
			top->leaving = true;
			return;
		case SIGTSTP:
			stop();
			break;
		case SIGCONT:
		case SIGWINCH:
			vac_top_screen_again();
			break;
		default: /* SIGCHLD: a child is looked at anyhow */
			break;
		}
	}
}

/* ---- news ---- */

static void take_server(struct vac_top *top, struct vac_top_server *fresh)
{
	struct vac_top_server *stale = top->server;

	if (fresh->answered)
		top->answered_ns = fresh->at_ns;
	/* Its models are there while it is only slow. */
	if (fresh->late && stale) {
		fresh->models = stale->models;
		fresh->model_count = stale->model_count;
		stale->models = NULL;
	}
	vac_top_server_free(stale);
	top->server = fresh;
}

static void take_news(struct vac_top *top)
{
	struct vac_top_machine *machine = vac_top_feed_machine(top->feed);
	struct vac_top_server *server = vac_top_feed_server(top->feed);

	if (server)
		take_server(top, server);
	if (machine) {
		vac_top_follow(machine, &top->tracks);
		vac_top_machine_free(top->machine);
		top->machine = machine;
	}
	if (top->machine && top->server)
		vac_top_name_workers(top->machine, top->server);
	if (machine || server)
		vac_top_settle(top);
}

/* ---- the loop ---- */

/* false: nobody is at the terminal any more. */
static bool read_keys(struct vac_top *top, int *empty)
{
	int key = vac_top_screen_key();

	/* Readable and nothing to read is an end; a key may come in parts. */
	if (key < 0)
		return ++*empty < MOST_EMPTY_READS;
	*empty = 0;
	for (; key >= 0 && !top->leaving; key = vac_top_screen_key())
		vac_top_key(top, key);
	return true;
}

static void run_view(struct vac_top *top)
{
	int empty = 0;

	while (!top->leaving) {
		struct pollfd fds[] = {
			{.fd = STDIN_FILENO, .events = POLLIN},
			{.fd = signal_pipe[0], .events = POLLIN},
			{.fd = vac_top_feed_fd(top->feed), .events = POLLIN},
			{.fd = top->child.pid > 0 ? top->child.fd : -1, .events = POLLIN},
			{.fd = top->details.pid > 0 ? top->details.fd : -1, .events = POLLIN},
		};
		bool acting = top->child.pid > 0 || top->details.pid > 0;

		vac_top_screen_draw(top);
		if (poll(fds, sizeof(fds) / sizeof(fds[0]), acting ? ACTION_REDRAW_MS : REDRAW_MS) <
			    0 &&
		    errno != EINTR)
			break;
		handle_signals(top);
		if (fds[2].revents & POLLIN)
			take_news(top);
		vac_top_attend(top);
		if (top->leaving)
			break;
		if ((fds[0].revents & POLLIN && !read_keys(top, &empty)) ||
		    fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) {
			/* The terminal is gone: SIGHUP may have been ignored. */
			top->signal = SIGHUP;
			break;
		}
	}
}

static void end_by_signal(int number)
{
	struct sigaction action = {.sa_handler = SIG_DFL};

	sigaction(number, &action, NULL);
	raise(number);
}

static int show(const struct vac_command *command, struct vac_top *top,
		const struct vac_top_feed_options *options)
{
	struct vac_error err = {0};
	bool ended;
	int rc = catch_signals(&err);

	top->begun_ns = top->answered_ns = vac_now_ns();
	if (rc == 0)
		rc = vac_top_screen_open(&err);
	if (rc == 0)
		rc = vac_top_feed_start(&top->feed, options, &err);
	if (rc < 0) {
		vac_top_screen_close();
		vac_complain(command, "%s", err.message);
		return err.code == VAC_E_UNSUPPORTED ? VAC_EXIT_USAGE : VAC_EXIT_FAILED;
	}
	run_view(top);
	/* The terminal first: what is gathered may take its time to end. */
	vac_top_screen_close();
	ended = vac_top_feed_stop(top->feed);
	vac_top_child_leave(&top->child);
	vac_top_child_leave(&top->details);
	vac_top_machine_free(top->machine);
	vac_top_server_free(top->server);
	vac_top_tracks_free(&top->tracks);
	free(top->text);
	if (top->signal)
		end_by_signal(top->signal);
	if (!ended)
		_exit(VAC_EXIT_OK);
	return VAC_EXIT_OK;
}

static int parse_ms(const struct vac_command *command, const char *option, const char *text,
		    int64_t *ms)
{
	if (!text)
		return VAC_CONTINUE;
	if (vac_parse_duration_ms(text, ms) < 0 || *ms < LEAST_MS || *ms > MOST_MS)
		return vac_usage_error(command, "--%s takes a duration from 100ms to 1h, not '%s'",
				       option, text);
	return VAC_CONTINUE;
}

/* "-d" is short for "--interval". */
static int lengthen(int argc, char **argv, char **longer)
{
	static char interval[] = "--interval";
	bool ended = false;

	if (argc > ARGUMENTS)
		argc = ARGUMENTS;
	for (int i = 0; i < argc; i++) {
		ended |= strcmp(argv[i], "--") == 0;
		longer[i] = !ended && strcmp(argv[i], "-d") == 0 ? interval : argv[i];
	}
	return argc;
}

static int run(const struct vac_command *command, int argc, char **argv)
{
	struct vac_client client = {0};
	const char *interval = NULL;
	const struct vac_option table[] = {
		{"interval", "DURATION", "between two refreshes (1s); -d DURATION is the same",
		 NULL, &interval},
		{"server", "URL", "to ask, or unix:/PATH (else VACATE_SERVER, 127.0.0.1:8321)",
		 NULL, &client.server},
		{"api-key-file", "FILE", "its first key is sent (else VACATE_API_KEY)", NULL,
		 &client.keys},
		{"timeout", "DURATION", "for the server's answer (2s); the view goes on", NULL,
		 &client.timeout},
	};
	struct vac_top top = {.interval_ms = DEFAULT_MS,
			      .chosen = VAC_TOP_PROCESSES,
			      .child = {.fd = -1},
			      .details = {.fd = -1}};
	struct vac_top_feed_options options = {.timeout_ms = SERVER_TIMEOUT_MS};
	struct vac_arguments arguments = {0};
	struct vac_client_server server;
	char *longer[ARGUMENTS + 1];
	int rc;

	argc = lengthen(argc, argv, longer);
	rc = vac_options_parse(command, table, sizeof(table) / sizeof(table[0]), &arguments, argc,
			       longer);
	if (rc == VAC_CONTINUE)
		rc = parse_ms(command, "interval", interval, &top.interval_ms);
	if (rc == VAC_CONTINUE)
		rc = parse_ms(command, "timeout", client.timeout, &options.timeout_ms);
	if (rc != VAC_CONTINUE)
		return rc;
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		vac_complain(command, "needs a terminal; `vacate ps` shows the same once");
		return VAC_EXIT_USAGE;
	}
	rc = vac_client_find(command, &client, &server);
	if (rc != VAC_CONTINUE)
		return rc;
	options.interval_ms = top.interval_ms;
	options.server = &server.url;
	options.machine = top.watches_machine = vac_ps_server_is_here(&server.url);
	top.server_text = server.url.text;
	top.server_option = client.server;
	top.keys_option = client.keys;
	rc = show(command, &top, &options);
	vac_client_forget(&server);
	return rc;
}

const struct vac_command vac_command_top = {
	.name = "top",
	.arguments = "[options]",
	.summary = "Shows what `vacate ps` shows, live, with keys to park, resume, load, unload",
	.details =
		"The GPUs, the models of the server, and the processes that hold GPU memory, with "
		"a\n"
		"line of history each. Keys choose, order and act; ? tells which. Of a server on\n"
		"another machine only its models are shown.",
	.run = run,
};
