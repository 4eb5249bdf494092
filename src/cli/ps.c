/*
 * ps.c - `vacate ps`: models in memory, the processes that hold them, and whoever
 * else is on the GPUs. One thread.
 */
#include "cli/ps.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/who_client.h"

/* For USS and PSS of all processes. */
#define MEASURE_NS 2000000000

struct options {
	struct vac_client client;
	bool gpustat, gputil, uss;
};

bool vac_ps_server_was_named(const struct vac_client *client)
{
	const char *variable = getenv("VACATE_SERVER");

	return client->server || (variable && *variable);
}

bool vac_ps_server_is_here(const struct vac_http_url *url)
{
	struct in_addr address;

	return url->path[0] || strcmp(url->host, "localhost") == 0 ||
	       strcmp(url->host, "::1") == 0 ||
	       (inet_pton(AF_INET, url->host, &address) == 1 &&
		(ntohl(address.s_addr) >> 24 == 127 || address.s_addr == 0));
}

static bool server_is_here(const struct vac_command *command, const struct vac_client *client)
{
	struct vac_client_server server;
	bool here;

	/* What is wrong is said by who asks. */
	if (vac_client_find(command, client, &server) != VAC_CONTINUE)
		return true;
	here = vac_ps_server_is_here(&server.url);
	vac_client_forget(&server);
	return here;
}

/* VAC_CONTINUE: *reply is the server's, or NULL where none answers and none need be. */
static int ask_server(const struct vac_command *command, struct options *options, json_t **reply,
		      struct vac_error *unreachable)
{
	int rc;

	options->client.compose = true;
	if (!vac_ps_server_was_named(&options->client))
		options->client.unreachable = unreachable;
	rc = vac_client_ask(command, &options->client, "GET", "/models/ps", NULL, VAC_ASK_TIMEOUT_S,
			    reply);
	if (rc == VAC_EXIT_UNREACHABLE && unreachable->code != VAC_OK) {
		/* Nobody asked for one: that there is none is enough to know. */
		vac_fail(unreachable, unreachable->code, "no vacate server answers at %s",
			 VAC_HTTP_DEFAULT_SERVER);
		return VAC_CONTINUE;
	}
	if (rc == VAC_CONTINUE && !vac_reply_list(command, *reply, "models")) {
		json_decref(*reply);
		*reply = NULL;
		rc = VAC_EXIT_FAILED;
	}
	return rc;
}

/* What a server would tell of the machine's RAM. */
static json_t *make_host(void)
{
	struct vac_host_memory host;
	json_t *object = json_object();
	int rc = object ? 0 : -1;

	vac_meter_host("", &host);
	const struct {
		const char *name;
		bool valid;
		uint64_t bytes;
	} members[] = {
		{"total_bytes", host.total_valid, host.total_bytes},
		{"available_bytes", host.available_valid, host.available_bytes},
		{"cgroup_limit_bytes", host.cgroup_limit_valid, host.cgroup_limit_bytes},
		{"cgroup_used_bytes", host.cgroup_used_valid, host.cgroup_used_bytes},
	};

	for (size_t i = 0; rc == 0 && i < sizeof(members) / sizeof(members[0]); i++)
		rc = json_object_set_new(object, members[i].name,
					 members[i].valid
						 ? json_integer((json_int_t)members[i].bytes)
						 : json_null());
	if (rc == 0)
		return object;
	json_decref(object);
	return NULL;
}

static int print_without_server(const struct vac_terminal *terminal,
				const struct vac_error *unreachable)
{
	json_t *host = make_host();
	int rc = vac_print_line(terminal, "%s", unreachable->message);

	if (rc == 0)
		rc = host ? vac_ps_print_host(terminal, host) : -ENOMEM;
	json_decref(host);
	return rc;
}

/* The server's reply with more in it; without one, the same members with nothing in
 * them. */
static int print_document(const struct vac_command *command, json_t *reply,
			  const struct vac_ps_machine *machine, const struct vac_error *unreachable)
{
	json_t *document = reply ? json_incref(reply)
				 : json_pack("{s:[], s:[], s:n, s:o}", "models", "workers",
					     "server", "host", make_host());
	int rc = -1;

	if (document) {
		rc = json_object_set_new(document, "server_error",
					 unreachable->code != VAC_OK
						 ? json_string(unreachable->message)
						 : json_null());
		if (rc == 0 && machine)
			rc = vac_ps_add_machine(document, machine);
	}
	if (rc != 0) {
		json_decref(document);
		document = NULL;
	}
	return vac_ps_print_json(command, document);
}

static int print_all(const struct vac_command *command, json_t *reply,
		     const struct vac_ps_machine *machine, const struct vac_error *unreachable,
		     bool uss)
{
	struct vac_terminal terminal = vac_terminal_of(stdout);
	int rc;

	if (reply)
		rc = vac_ps_print_server(&terminal, reply, json_object_get(reply, "models"),
					 !machine || !machine->surveyed);
	else
		rc = print_without_server(&terminal, unreachable);
	if (rc == 0 && machine) {
		fputc('\n', stdout);
		rc = vac_ps_print_machine(&terminal, machine, reply, uss);
	}
	if (rc == 0)
		return VAC_EXIT_OK;
	vac_complain(command, "out of memory for the table");
	return VAC_EXIT_FAILED;
}

/* In another program's form, without a server. */
static int print_like(const struct vac_command *command, const struct options *options,
		      const struct vac_ps_machine *machine)
{
	int rc = VAC_EXIT_OK;

	if (options->gputil)
		rc = vac_ps_gputil(machine);
	else if (machine->surveyed)
		rc = vac_ps_gpustat(command, machine);
	if (machine->surveyed)
		return rc;
	vac_complain(command, "%s", machine->why.message);
	return VAC_EXIT_FAILED;
}

static int show(const struct vac_command *command, struct options *options)
{
	bool like = options->gpustat || options->gputil;
	bool here = like || server_is_here(command, &options->client);
	struct vac_ps_machine machine = {0};
	struct vac_who_client who = {0};
	struct vac_error unreachable = {0}, err;
	json_t *reply = NULL;
	int rc = VAC_CONTINUE;

	/* NVML starts while the server is asked. */
	if (here)
		vac_ps_machine_ask(&who, &machine);
	if (!like)
		rc = ask_server(command, options, &reply, &unreachable);
	if (rc == VAC_CONTINUE && here && vac_ps_machine_take(&who, &machine, &err) < 0) {
		vac_complain(command, "%s", err.message);
		rc = VAC_EXIT_FAILED;
	}
	if (rc == VAC_CONTINUE && options->uss)
		vac_holders_measure(&machine.holders, vac_now_ns() + MEASURE_NS);
	if (rc == VAC_CONTINUE && like)
		rc = print_like(command, options, &machine);
	else if (rc == VAC_CONTINUE && options->client.json)
		rc = print_document(command, reply, here ? &machine : NULL, &unreachable);
	else if (rc == VAC_CONTINUE)
		rc = print_all(command, reply, here ? &machine : NULL, &unreachable, options->uss);
	/* Before NVML is waited for, which takes its time to end. */
	(void)vac_flush_output();
	vac_who_close(&who);
	vac_ps_machine_free(&machine);
	json_decref(reply);
	return rc;
}

static int run(const struct vac_command *command, int argc, char **argv)
{
	struct options options = {0};
	const struct vac_option table[] = {
		VAC_CLIENT_ASK_OPTIONS(options.client),
		{"json", NULL, "all of it as one JSON document", &options.client.json, NULL},
		{"uss", NULL, "with USS and PSS of processes on GPUs, as far as 2 s suffice",
		 &options.uss, NULL},
		{"gpustat", NULL, "what `gpustat --json` prints", &options.gpustat, NULL},
		{"gputil", NULL, "what GPUtil.showUtilization() prints", &options.gputil, NULL},
	};
	const char *values[1];
	struct vac_arguments arguments = {.values = values, .most = 1};
	int rc = vac_options_parse(command, table, sizeof(table) / sizeof(table[0]), &arguments,
				   argc, argv);

	if (rc != VAC_CONTINUE)
		return rc;
	if (options.gpustat + options.gputil + options.client.json > 1)
		return vac_usage_error(command,
				       "--json, --gpustat and --gputil exclude each other");
	if (arguments.count == 0)
		return show(command, &options);
	if (options.gpustat || options.gputil || options.uss)
		return vac_usage_error(command, "a PID goes with --json alone");
	return vac_ps_process(command, values[0], options.client.json);
}

const struct vac_command vac_command_ps = {
	.name = "ps",
	.arguments = "[PID] [options]",
	.summary = "Shows the models in memory, the processes that hold them, and who is on GPUs",
	.details =
		"RAM and VRAM are the plan of a model. USS is what a process has for itself alone\n"
		"and its VRAM what NVML says, both as measured now; UNTIL is the time to the\n"
		"model's unload when no request comes; \"own\" behind a worker's number: no other\n"
		"model is on it. Without a server that was named, its part is left out.\n"
		"Below stands every process of this machine that is on a GPU, or is parked, and\n"
		"each GPU: UNACCOUNTED is used and belongs to nobody that NVML lists. With PID:\n"
		"that process in full, what its memory is made of and what could be had back.",
	.run = run,
};
