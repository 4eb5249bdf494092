/*
 * accept_safetensors.c - reads paths from standard input, one a line, and says
 * for each whether our reader takes the file: "ok COUNT", or the error's name
 * and message. For tests/golden/compare_safetensors.py.
 */
#include <stdio.h>
#include <string.h>

#include "format/safetensors.h"

int main(void)
{
	char path[4096];

	while (fgets(path, sizeof(path), stdin)) {
		struct vac_safetensors st;
		struct vac_error err;

		path[strcspn(path, "\n")] = '\0';
		if (vac_safetensors_open_file(path, &st, &err) == 0) {
			printf("ok %zu\n", st.tensor_count);
			vac_safetensors_close(&st);
		} else {
			printf("%s %s\n", vac_error_name(err.code), err.message);
		}
	}
	return 0;
}
