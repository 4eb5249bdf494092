/*
 * rotate.h - FILE becomes FILE.1, FILE.1 becomes FILE.2, ..., and a new FILE
 * begins, so that FILE is there at every moment. No state; any thread.
 */
#ifndef VAC_BASE_ROTATE_H
#define VAC_BASE_ROTATE_H

#include <stdint.h>

/* How files of a journal are opened for appending; descriptor or -errno. */
int vac_rotate_open(const char *path, int flags);
/* fd: path, open. keep: the number of the oldest file. Returns the descriptor of
 * the new file, or -errno: then fd goes on being the file to append to. -EBUSY:
 * another process rotates it now; -ESTALE: one did, path is not fd any more. */
int vac_rotate(const char *path, int fd, uint32_t keep);

#endif
