/*
 * top.h - what the files of `vacate top` share: the state of the view. One thread, but
 * for what top_feed.h does beside it.
 */
#ifndef VAC_CLI_TOP_H
#define VAC_CLI_TOP_H

#include "cli/top_child.h"
#include "cli/top_feed.h"

#define VAC_TOP_INPUT_BYTES   VAC_TOP_EXACT_BYTES
#define VAC_TOP_MESSAGE_BYTES 1024

enum vac_top_mode {
	VAC_TOP_LIST,
	VAC_TOP_ASK_NAME, /* of a model to load */
	VAC_TOP_CONFIRM,  /* is the action to be done? */
	VAC_TOP_TEXT,     /* a text over the list: help, details */
};

/* What a key asks for, before it is confirmed and while it runs. */
struct vac_top_action {
	char verb[16];                    /* "park", ...; "quit" */
	char object[VAC_TOP_INPUT_BYTES]; /* a process's number, a model's name */
	pid_t pid;                        /* of a process, else 0 */
	uint64_t start_ticks;             /* of that process, no other */
};

struct vac_top {
	/* Options. */
	int64_t interval_ms;
	const char *server_option, *keys_option; /* as they were given, NULL: not */
	const char *server_text;                 /* where it is */
	bool watches_machine;

	/* News. */
	struct vac_top_feed *feed;
	int64_t begun_ns;
	struct vac_top_machine *machine; /* NULL: none so far */
	struct vac_top_server *server;
	int64_t answered_ns; /* when the server did last */
	struct vac_top_tracks tracks;

	/* The view. */
	enum vac_top_order order;
	bool reversed;
	enum vac_top_section chosen; /* VAC_TOP_MODELS or VAC_TOP_PROCESSES */
	size_t index;                /* in that list */
	char chosen_name[VAC_TOP_EXACT_BYTES];
	uint32_t chosen_pid;
	size_t first[VAC_TOP_SECTIONS]; /* rows that are shown first */
	enum vac_top_mode mode;
	char input[VAC_TOP_INPUT_BYTES];
	char message[VAC_TOP_MESSAGE_BYTES];
	enum vac_color message_color;
	char title[VAC_TOP_LINE_BYTES]; /* of the text */
	char *text;                     /* owned; lines */
	size_t text_first, text_page;

	struct vac_top_action action, running;
	struct vac_top_child child, details;
	bool leaving;
	int signal; /* to end by; 0: none */
};

/* ---- top_keys.c ---- */

/* key: of curses, or a character. */
void vac_top_key(struct vac_top *top, int key);
/* Finds what was chosen in rows that came anew, or are in another order. */
void vac_top_settle(struct vac_top *top);
/* What the children have to say. */
void vac_top_attend(struct vac_top *top);
const struct vac_top_process *vac_top_chosen_process(const struct vac_top *top);
const struct vac_top_model *vac_top_chosen_model(const struct vac_top *top);

/* ---- top_terminal.c, top_screen.c ---- */

/* VAC_E_UNSUPPORTED: the terminal cannot do what is needed. */
int vac_top_screen_open(struct vac_error *err) VAC_MUST_CHECK;
/* The terminal is as it was; what was written to standard error meanwhile comes now. */
void vac_top_screen_close(void);
void vac_top_screen_draw(struct vac_top *top);
/* The next key, -1: none. */
int vac_top_screen_key(void);
/* Gives the terminal back, until the next drawing. */
void vac_top_screen_suspend(void);
/* Another program may have drawn on it, or it has another size. */
void vac_top_screen_again(void);
unsigned vac_top_screen_columns(void);
bool vac_top_colors(void); /* and the user wants some */
bool vac_top_blocks(void); /* of eight heights */

#endif
