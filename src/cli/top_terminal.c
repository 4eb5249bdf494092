/*
 * top_terminal.c - the terminal under the screen of `vacate top`: taken, given back, and
 * what it can do; see top.h.
 */
#include "cli/top.h"

#include <curses.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <term.h>
#include <unistd.h>

#define ESCAPE_MS        100 /* for the rest of an arrow key to arrive */
#define KEPT_ERROR_BYTES 4096

static SCREEN *screen;
static bool colored, blocks;
/* Standard error, while the screen is not to be written on: of vacate-gpud, too. */
static int real_stderr = -1;

static void divert_stderr(void)
{
	int fd;

	if (!isatty(STDERR_FILENO))
		return;
	fd = memfd_create("stderr", MFD_CLOEXEC);
	real_stderr = fd >= 0 ? fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3) : -1;
	if (real_stderr >= 0) {
		/* Written by several processes: each at the end. */
		fcntl(fd, F_SETFL, O_APPEND);
		dup2(fd, STDERR_FILENO);
	}
	if (fd >= 0)
		close(fd);
}

static void restore_stderr(void)
{
	char text[KEPT_ERROR_BYTES + 1];
	ssize_t n;

	if (real_stderr < 0)
		return;
	fflush(stderr);
	n = pread(STDERR_FILENO, text, KEPT_ERROR_BYTES, 0);
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	real_stderr = -1;
	for (ssize_t i = 0; i < n; i++)
		if (text[i] != '\n' && (text[i] < ' ' || text[i] > '~'))
			text[i] = '?';
	if (n > 0)
		(void)!write(STDERR_FILENO, text, (size_t)n);
}

static bool can_place_cursor(void)
{
	const char *how = tigetstr("cup");

	return how && how != (const char *)-1;
}

/* A font of the console or of a terminal of glass has no blocks. */
static bool has_blocks(const char *term)
{
	static const char *const without[] = {"linux", "vt", "ansi", "cons"};

	for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++)
		if (strncmp(term, without[i], strlen(without[i])) == 0)
			return false;
	return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

/* Of the terminal itself: curses believes LINES and COLUMNS first, which may be those of
 * where they were exported. */
static void take_size(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0)
		resizeterm(size.ws_row, size.ws_col);
}

static void start_colors(void)
{
	const char *no_color = getenv("NO_COLOR");

	colored = !(no_color && *no_color) && has_colors() && start_color() == OK;
	if (!colored)
		return;
	use_default_colors();
	init_pair(VAC_COLOR_GREEN, COLOR_GREEN, -1);
	init_pair(VAC_COLOR_YELLOW, COLOR_YELLOW, -1);
	init_pair(VAC_COLOR_RED, COLOR_RED, -1);
}

int vac_top_screen_open(struct vac_error *err)
{
	const char *term = getenv("TERM");
	bool able;
	int found;

	if (!term || !*term)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"TERM does not say what terminal this is; `vacate ps` shows the "
				"same once");
	setlocale(LC_CTYPE, "");
	able = setupterm(term, STDOUT_FILENO, &found) == OK && can_place_cursor();
	if (cur_term)
		del_curterm(cur_term);
	if (able)
		screen = newterm(term, stdout, stdin);
	if (!screen)
		return vac_fail(err, VAC_E_UNSUPPORTED,
				"the terminal (TERM=%.40s) is unknown here or cannot place its "
				"cursor; `vacate ps` shows the same once",
				term);
	divert_stderr();
	blocks = has_blocks(term);
	start_colors();
	set_escdelay(ESCAPE_MS);
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	leaveok(stdscr, FALSE);
	curs_set(0);
	take_size();
	return 0;
}

void vac_top_screen_close(void)
{
	if (!screen)
		return;
	erase();
	refresh();
	endwin();
	delscreen(screen);
	screen = NULL;
	restore_stderr();
}

void vac_top_screen_suspend(void)
{
	endwin();
}

void vac_top_screen_again(void)
{
	/* After the shell had it, the terminal's modes are the shell's. */
	reset_prog_mode();
	take_size();
	clearok(curscr, TRUE);
}

int vac_top_screen_key(void)
{
	int key = getch();

	return key == ERR ? -1 : key;
}

unsigned vac_top_screen_columns(void)
{
	return COLS > 20 ? (unsigned)COLS : 20;
}

bool vac_top_colors(void)
{
	return colored;
}

bool vac_top_blocks(void)
{
	return blocks;
}
