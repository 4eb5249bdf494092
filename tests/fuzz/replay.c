/*
 * replay.c - runs a fuzz target once over every file of the directories given
 * on the command line, so that the corpus is a test also without libFuzzer.
 * An empty or missing directory is an error: a check that checks nothing fails.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int replay_dir(const char *path)
{
	struct dirent *entry;
	int count = 0;
	DIR *dir = opendir(path);

	if (!dir)
		return -1;
	while ((entry = readdir(dir))) {
		struct vac_buf buf = VAC_BUF_INIT;
		struct vac_error err;
		char *file;

		if (entry->d_name[0] == '.')
			continue;
		file = vac_path_join(path, entry->d_name);
		if (!file || vac_read_file(file, (size_t)64 << 20, &buf, &err) != 0) {
			fprintf(stderr, "%s: cannot be read\n", entry->d_name);
			exit(1);
		}
		LLVMFuzzerTestOneInput(buf.data, buf.bytes);
		vac_buf_free(&buf);
		free(file);
		count++;
	}
	closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	int total = 0;

	for (int i = 1; i < argc; i++) {
		int n = replay_dir(argv[i]);

		if (n <= 0) {
			fprintf(stderr, "%s: no corpus there\n", argv[i]);
			return 1;
		}
		total += n;
	}
	printf("%d inputs replayed\n", total);
	return total > 0 ? 0 : 1;
}
