/*
 * ps.h - what the files of `vacate ps` share. One thread.
 */
#ifndef VAC_CLI_PS_H
#define VAC_CLI_PS_H

#include <sys/types.h>

#include "cli/client.h"
#include "hold/usage.h"

/* What is known of this machine. */
struct vac_ps_machine {
	bool quick;    /* not to look for processes that NVML does not list */
	bool surveyed; /* NVML answered */
	struct vac_survey survey;
	struct vac_error why; /* else: why not, in one sentence */
	struct vac_holders holders;
};

/* Somebody said which server; then it must be there. */
bool vac_ps_server_was_named(const struct vac_client *client);
/* Is what the server tells about this machine? */
bool vac_ps_server_is_here(const struct vac_http_url *url);

/* Of a server's reply (ps_models.c); gpus: with its lines about GPUs. 0, or -ENOMEM. */
int vac_ps_print_server(const struct vac_terminal *terminal, const json_t *reply,
			const json_t *models, bool gpus);
/* "loading 45%", else a model's state as it is; NULL: none. */
const char *vac_ps_state_text(const json_t *model, char to[VAC_TEXT_BYTES]);
/* The time to its unload, "pinned", "forever". */
const char *vac_ps_until_text(const json_t *model, char to[VAC_TEXT_BYTES]);
/* The machine's RAM: "host" of a reply. The same. */
int vac_ps_print_host(const struct vac_terminal *terminal, const json_t *host);
/* The model that this process of the server holds, or "3 models"; NULL: none, or the
 * process is not the server's. The caller frees it. */
char *vac_ps_worker_models(const json_t *reply, pid_t pid);

/* ps_machine.c: starts vacate-gpud, and takes the snapshot when it has answered. */
struct vac_who_client;
void vac_ps_machine_ask(struct vac_who_client *who, struct vac_ps_machine *machine);
int vac_ps_machine_take(struct vac_who_client *who, struct vac_ps_machine *machine,
			struct vac_error *err);
void vac_ps_machine_free(struct vac_ps_machine *machine);

/* ps_holders.c: the tables of processes and devices; reply: of the server, or NULL;
 * uss: with these columns. 0, or -ENOMEM. */
int vac_ps_print_machine(const struct vac_terminal *terminal, const struct vac_ps_machine *machine,
			 const json_t *reply, bool uss);

/* ps_json.c: adds "processes" and "devices" (and "gpu_error") to a document. 0, or
 * -ENOMEM. */
int vac_ps_add_machine(json_t *document, const struct vac_ps_machine *machine);
/* As gpustat and GPUtil print them (ps_formats.c). An exit code. */
int vac_ps_gpustat(const struct vac_command *command, const struct vac_ps_machine *machine);
int vac_ps_gputil(const struct vac_ps_machine *machine);
/* Prints it and frees it; an exit code. NULL: no memory. */
int vac_ps_print_json(const struct vac_command *command, json_t *document);

/* One process in full (ps_process.c). An exit code. */
int vac_ps_process(const struct vac_command *command, const char *pid, bool json);

/* "train.py"; of who cannot be seen here, why that is so. */
const char *vac_holder_what(const struct vac_holder *holder);
/* "running", ...; "unlisted": NVML does not know it. */
const char *vac_holder_state_text(const struct vac_holder *holder);
enum vac_color vac_holder_state_color(enum vac_hold_state state);
/* What or who parked it, where that is worth saying: "guard", "root"; else NULL. */
const char *vac_holder_by(const struct vac_holder *holder, char to[VAC_TEXT_BYTES]);
/* The name of a user, else his number, kept until another is asked for. */
const char *vac_user_name(uid_t uid, char to[VAC_TEXT_BYTES]);
/* "busy", "12.3 s", ">6.1 s" of one part; "-". */
const char *vac_part_idle(const struct vac_holder_part *part, char to[VAC_TEXT_BYTES]);
/* "37%", "-". */
const char *vac_gauge_percent(const struct vac_gauge *gauge, char to[VAC_TEXT_BYTES]);
/* "gpu:0" */
const char *vac_device_name(const struct vac_survey_device *device, char to[VAC_TEXT_BYTES]);

#endif
