/*
 * io.h - reading and writing whole ranges, with EINTR and short counts
 * handled in one place. Files of a model that were handed to this process are
 * found without the system's help (handed.h). Any thread.
 */
#ifndef VAC_BASE_IO_H
#define VAC_BASE_IO_H

#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/buf.h"

/* Reads exactly bytes at offset. A file that ends early is VAC_E_CORRUPT with
 * the path, the offset and the size that is missing; other failures VAC_E_IO. */
int vac_pread_full(int fd, const char *path, void *to, size_t bytes, uint64_t offset,
		   struct vac_error *err) VAC_MUST_CHECK;

/* Writes exactly bytes to a blocking descriptor; 0 or -errno. SIGPIPE is the
 * caller's to ignore. */
int vac_write_full(int fd, const void *from, size_t bytes) VAC_MUST_CHECK;

/* Appends a whole regular file to buf. Larger than limit_bytes is
 * VAC_E_TOO_LARGE; a directory, fifo or device is VAC_E_INVALID. */
int vac_read_file(const char *path, size_t limit_bytes, struct vac_buf *buf,
		  struct vac_error *err) VAC_MUST_CHECK;

/* Reads a small file of /proc or the like, as far as there is room, which is at least 1:
 * without stdio, which would allocate for each. The bytes read, behind which text ends,
 * or a negative errno. */
ssize_t vac_read_small(const char *path, char *text, size_t room) VAC_MUST_CHECK;

/* Opens for reading, close-on-exec, regular files only (never blocks on a
 * fifo). Returns the descriptor or a negative errno with err set. */
int vac_open_file(const char *path, uint64_t *size_bytes, struct vac_error *err) VAC_MUST_CHECK;

/* True also for what exists but may not be read, so that opening it says why;
 * a dangling symbolic link of the hub cache counts as missing. */
bool vac_file_exists(const char *path);

/* Calls entry with each name in a directory ("." and ".." may be among them),
 * in any order. 0 or -errno. */
int vac_list_dir(const char *dir, void (*entry)(void *ctx, const char *name),
		 void *ctx) VAC_MUST_CHECK;

/* fstat() by the system call that takes no path. The C library's may be built on
 * one that does, which a sandboxed worker is not allowed. */
int vac_fstat(int fd, struct stat *st) VAC_MUST_CHECK;

/* readdir() that tells an error from the end: NULL with *error 0 or an errno. */
struct dirent *vac_next_entry(DIR *stream, int *error);

/* "dir/name" into a new string (caller frees), NULL when out of memory. */
char *vac_path_join(const char *dir, const char *name);

#endif
