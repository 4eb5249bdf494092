/*
 * log.h - one line a message on standard error, for programs (never for the
 * library): "2026-01-31T12:00:00.123Z vacate-worker[123] info: text".
 * Any thread; one write(2) a line.
 */
#ifndef VAC_BASE_LOG_H
#define VAC_BASE_LOG_H

#include "base/error.h"

enum vac_log_level { VAC_LOG_ERROR, VAC_LOG_WARN, VAC_LOG_INFO, VAC_LOG_DEBUG };

/* Called once at start. program is kept, not copied. */
void vac_log_init(const char *program, enum vac_log_level level);
/* From then on. Not while another thread logs. */
void vac_log_set_level(enum vac_log_level level);
/* "error", "warn", "info", "debug" -> level; -EINVAL otherwise. */
int vac_log_parse_level(const char *text, enum vac_log_level *out);
void vac_log(enum vac_log_level level, const char *fmt, ...) VAC_PRINTF(2, 3);

#endif
