/*
 * fuzz_proc.c - byte 0 chooses which file of /proc the rest is: what is read out of it
 * keeps within its bounds, and a name is fit for a terminal and for JSON.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "hold/proc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check(int truth)
{
	if (!truth)
		abort();
}

static void fuzz_status(const char *text, size_t bytes)
{
	struct vac_proc_status status;
	bool good = vac_proc_parse_status(text, bytes, &status);

	check(good == (status.uid_valid || status.threads_valid || status.pid_count > 0));
	check(status.pid_count <= VAC_PROC_NAMESPACES);
	for (uint32_t i = 0; i < status.pid_count; i++)
		check(status.pids[i] >= 0);
}

static void fuzz_stat(const char *text, size_t bytes)
{
	struct vac_proc_stat stat;

	if (!vac_proc_parse_stat(text, bytes, &stat))
		return;
	check((stat.state >= 'A' && stat.state <= 'Z') || (stat.state >= 'a' && stat.state <= 'z'));
	check(stat.parent >= 0);
}

static void fuzz_name(const char *text, size_t bytes)
{
	char name[VAC_PROC_NAME_BYTES];

	vac_proc_name(text, bytes, "comm", name);
	check(memchr(name, '\0', sizeof(name)) != NULL);
	check(vac_utf8_valid(name, strlen(name)));
	for (const char *c = name; *c; c++)
		check((unsigned char)*c >= ' ' && *c != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	/* A copy of its own length, so that a read beyond it is seen. */
	char *text = malloc(bytes ? bytes : 1);

	check(text != NULL);
	if (bytes > 0) {
		memcpy(text, data + 1, bytes - 1);
		switch (data[0]) {
		case 's':
			fuzz_status(text, bytes - 1);
			break;
		case 't':
			fuzz_stat(text, bytes - 1);
			break;
		default:
			fuzz_name(text, bytes - 1);
		}
	}
	free(text);
	return 0;
}
