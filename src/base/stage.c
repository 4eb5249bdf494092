/* stage.c - see stage.h. */
#include "base/stage.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int file = -1;

static void open_file(void)
{
	const char *path = getenv("VACATE_STAGES");

	if (path && *path)
		file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
}

int64_t vac_stage(const char *stage, int64_t since_ns)
{
	int64_t now_ns = vac_now_ns();
	char line[128];
	int n;

	pthread_once(&once, open_file);
	if (file < 0)
		return now_ns;
	n = snprintf(line, sizeof(line), "%d %s %" PRId64 " %" PRId64 "\n", (int)getpid(), stage,
		     since_ns, now_ns);
	/* In one write, so that lines of two processes do not mix. */
	if (n > 0 && (size_t)n < sizeof(line))
		(void)!write(file, line, (size_t)n);
	return now_ns;
}
