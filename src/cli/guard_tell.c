/* guard_tell.c - what `vacate guard` does, told. One thread. */
#include "cli/guard.h"

#include <inttypes.h>
#include <stdio.h>

#include "api/write.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/format.h"

static const char *const names[] = {
	[VAC_GUARD_PARKED] = "parked",   [VAC_GUARD_WOULD_PARK] = "would_park",
	[VAC_GUARD_REFUSED] = "refused", [VAC_GUARD_PUT_BACK] = "put_back",
	[VAC_GUARD_RESUMED] = "resumed", [VAC_GUARD_LEFT] = "left",
};

static void put_member(struct vac_buf *buf, const char *name)
{
	vac_buf_printf(buf, ",\"%s\":", name);
}

static void put_devices(struct vac_buf *buf, const struct vac_guard_told *told)
{
	const struct vac_holder *holder = told->holder;
	char name[VAC_TEXT_BYTES];

	put_member(buf, "devices");
	vac_buf_putc(buf, '[');
	for (uint32_t i = 0; i < holder->part_count; i++) {
		const struct vac_survey_device *device =
			&told->survey->devices[holder->parts[i].device];

		vac_buf_printf(buf, "%s{\"device\":", i ? "," : "");
		vac_put_text(buf, vac_device_name(device, name));
		put_member(buf, "uuid");
		vac_put_text(buf, device->uuid);
		put_member(buf, "vram_bytes");
		if (holder->parts[i].bytes_valid)
			vac_put_u64(buf, holder->parts[i].bytes);
		else
			vac_buf_puts(buf, "null");
		vac_buf_putc(buf, '}');
	}
	vac_buf_putc(buf, ']');
}

static void write_json(struct vac_buf *buf, const struct vac_guard_told *told, const char *user)
{
	const struct vac_holder *holder = told->holder;
	uint64_t bytes;

	vac_buf_puts(buf, "{\"time\":");
	vac_put_time(buf, vac_wall_ns());
	put_member(buf, "event");
	vac_put_text(buf, names[told->event]);
	put_member(buf, "pid");
	vac_put_i64(buf, holder->pid);
	put_member(buf, "user");
	vac_put_text(buf, user);
	put_member(buf, "name");
	vac_put_text(buf, holder->name);
	put_member(buf, "command");
	vac_put_text(buf, told->command);
	put_member(buf, "vram_bytes");
	if (vac_holder_bytes(holder, &bytes))
		vac_put_u64(buf, bytes);
	else
		vac_buf_puts(buf, "null");
	put_devices(buf, told);
	put_member(buf, "idle_ms");
	if (told->idle_ms >= 0)
		vac_put_i64(buf, told->idle_ms);
	else
		vac_buf_puts(buf, "null");
	if (told->why) {
		put_member(buf, "code");
		vac_put_text(buf, vac_error_name(told->why->code));
		put_member(buf, "reason");
		vac_put_text(buf, told->why->message);
	}
	if (told->event == VAC_GUARD_PARKED) {
		put_member(buf, "took_ms");
		vac_put_ms(buf, told->took_ns);
		put_member(buf, "resume");
		vac_buf_printf(buf, "\"vacate resume %d\"", (int)holder->pid);
	}
	vac_buf_putc(buf, '}');
}

static void write_log(const struct vac_guard_told *told, const char *user)
{
	const struct vac_holder *holder = told->holder;
	const char *reason = told->why ? told->why->message : "";
	char size[VAC_TEXT_BYTES] = "its VRAM", idle[VAC_TEXT_BYTES] = "a time that is not known";
	uint64_t bytes;
	int pid = (int)holder->pid;

	if (vac_holder_bytes(holder, &bytes))
		vac_format_bytes(size, bytes);
	if (told->idle_ms >= 0)
		vac_format_ms(idle, told->idle_ms);
	switch (told->event) {
	case VAC_GUARD_PARKED:
		vac_log(VAC_LOG_INFO,
			"parked process %d (%s of %s), idle for %s: %s are free again; `vacate "
			"resume %d` brings it back",
			pid, holder->name, user, idle, size, pid);
		break;
	case VAC_GUARD_WOULD_PARK:
		vac_log(VAC_LOG_INFO, "would park process %d (%s of %s), idle for %s, for %s", pid,
			holder->name, user, idle, size);
		break;
	case VAC_GUARD_REFUSED:
		vac_log(VAC_LOG_WARN, "process %d (%s of %s) was not parked: %s", pid, holder->name,
			user, reason);
		break;
	case VAC_GUARD_PUT_BACK:
		vac_log(VAC_LOG_INFO, "process %d (%s of %s) was put back: %s", pid, holder->name,
			user, reason);
		break;
	case VAC_GUARD_RESUMED:
		vac_log(VAC_LOG_INFO, "process %d (%s of %s) was resumed", pid, holder->name, user);
		break;
	case VAC_GUARD_LEFT:
		vac_log(VAC_LOG_WARN, "process %d (%s of %s) is left alone: %s", pid, holder->name,
			user, reason);
		break;
	}
}

void vac_guard_tell(struct vac_guard_teller *teller, const struct vac_guard_told *told)
{
	struct vac_buf line = VAC_BUF_INIT;
	char user[VAC_TEXT_BYTES];

	vac_user_name(told->holder->uid, user);
	write_json(&line, told, user);
	/* The journal first: who reads the others may have gone, and this end by SIGPIPE. */
	if (teller->json && vac_buf_ok(&line))
		printf("%.*s\n", (int)line.bytes, (const char *)line.data);
	vac_journal_line(&teller->journal, &line);
	write_log(told, user);
	(void)vac_flush_output();
}
