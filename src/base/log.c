/* log.c - one line a message on standard error. Any thread. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *program_name = "vacate";
static enum vac_log_level max_level = VAC_LOG_INFO;
static const char *const level_names[] = {"error", "warn", "info", "debug"};

void vac_log_init(const char *program, enum vac_log_level level)
{
	program_name = program;
	max_level = level;
}

void vac_log_set_level(enum vac_log_level level)
{
	max_level = level;
}

int vac_log_parse_level(const char *text, enum vac_log_level *out)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcmp(text, level_names[i]) == 0) {
			*out = (enum vac_log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

void vac_log(enum vac_log_level level, const char *fmt, ...)
{
	char line[1024];
	struct timespec ts;
	struct tm tm;
	size_t n;
	va_list ap;
	int m;

	if (level > max_level)
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	m = snprintf(line + n, sizeof(line) - n, ".%03ldZ %s[%d] %s: ", ts.tv_nsec / 1000000,
		     program_name, (int)getpid(), level_names[level]);
	n += (size_t)m;
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	n += m < 0 ? 0 : (size_t)m;
	if (n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	/* Nothing useful can be done when standard error is gone. */
	if (write(STDERR_FILENO, line, n) < 0)
		return;
}
