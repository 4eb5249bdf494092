/*
 * client.h - what the commands that ask a running server share: where it is,
 * how long to wait, and how to read what it says. One thread.
 */
#ifndef VAC_CLI_CLIENT_H
#define VAC_CLI_CLIENT_H

#include <jansson.h>

#include "base/keyfile.h"
#include "cli/cli.h"
#include "cli/format.h"
#include "cli/http_client.h"
#include "cli/table.h"

struct vac_client {
	bool json;                      /* --json: the server's words, unchanged */
	const char *server;             /* --server, else VACATE_SERVER, else the default */
	const char *timeout;            /* --timeout, else the command's own */
	const char *keys;               /* --api-key-file: its first key is sent */
	struct vac_http_beside *beside; /* done while the reply is waited for; NULL: nothing */
	bool compose; /* with json: a good reply is the command's to print, with more */
	/* Filled, and nothing is said, when nobody answers; NULL: complain. */
	struct vac_error *unreachable;
};

/* Entries of a command's option table. */
#define VAC_CLIENT_ASK_OPTIONS(client)                                                             \
	{"server", "URL", "to ask, or unix:/PATH (else VACATE_SERVER, 127.0.0.1:8321)", NULL,      \
	 &(client).server},                                                                        \
		{"api-key-file", "FILE", "its first key is sent (else VACATE_API_KEY)", NULL,      \
		 &(client).keys},                                                                  \
	{                                                                                          \
		"timeout", "SECONDS", "how long to wait for the answer; 0: for ever", NULL,        \
			&(client).timeout                                                          \
	}
#define VAC_CLIENT_OPTIONS(client)                                                                 \
	VAC_CLIENT_ASK_OPTIONS(client),                                                            \
	{                                                                                          \
		"json", NULL, "print the server's reply as it is", &(client).json, NULL            \
	}

/* How long questions may take, and what moves gigabytes. */
#define VAC_ASK_TIMEOUT_S  30
#define VAC_MOVE_TIMEOUT_S 0

/* Asks and reads. VAC_CONTINUE: *reply holds the answer (json_decref it).
 * Else the command is over and this is its exit code: with --json the reply
 * has been printed; after an error standard error says what was wrong.
 * body is borrowed and may be NULL. */
int vac_client_ask(const struct vac_command *command, const struct vac_client *client,
		   const char *method, const char *target, const json_t *body, int timeout_s,
		   json_t **reply);

/* A reply of another status than 200 to what was asked without it ("GET /x"): says
 * why, and returns the exit code. */
int vac_client_refused(const struct vac_command *command, const struct vac_client *client,
		       const struct vac_http_url *url, const char *what,
		       const struct vac_http_response *response);
/* Finds out which server is asked, and with which key. VAC_CONTINUE, or the exit
 * code after a complaint. vac_client_forget() wipes the key. */
struct vac_client_server {
	struct vac_http_url url;
	struct vac_keys keys;
};
int vac_client_find(const struct vac_command *command, const struct vac_client *client,
		    struct vac_client_server *server);
void vac_client_forget(struct vac_client_server *server);

/* The whole of a command that has no options of its own but --server and the
 * like: reads them and asks. As vac_client_ask(). */
int vac_client_get(const struct vac_command *command, int argc, char **argv, const char *target,
		   json_t **reply);

/* The named list of a reply, or NULL after complaining that it is not there. */
const json_t *vac_reply_list(const struct vac_command *command, const json_t *reply,
			     const char *name);
/* Members of an object; NULL or false when absent, null or of another type. */
const char *vac_reply_text(const json_t *object, const char *name);
bool vac_reply_number(const json_t *object, const char *name, int64_t *number);
bool vac_reply_flag(const json_t *object, const char *name);
/* Texts of a list, joined by ", " (caller frees); NULL: there is none. */
char *vac_reply_texts(const json_t *object, const char *name);
/* A number as text in to, NULL when absent. */
const char *vac_reply_count(const json_t *object, const char *name, char to[VAC_TEXT_BYTES]);
/* A number of bytes or milliseconds as text in to, "-" when unknown. */
const char *vac_reply_bytes(const json_t *object, const char *name, char to[VAC_TEXT_BYTES]);
const char *vac_reply_ms(const json_t *object, const char *name, char to[VAC_TEXT_BYTES]);

/* What a model takes on a device with memory of its own, NULL: nothing. */
const char *vac_reply_vram(const json_t *model, char to[VAC_TEXT_BYTES]);

/* The colour of a model's state; NULL is fine. */
enum vac_color vac_state_color(const char *state);
/* A receipt as a person reads it (receipt_text.c). 0 or -ENOMEM. */
int vac_print_receipt(const struct vac_terminal *terminal, const json_t *receipt);

#endif
