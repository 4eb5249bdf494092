/*
 * temp_dir.h - files that a test makes for itself, below one temporary
 * directory. Every function stops the test when it fails. One thread.
 */
#ifndef TEMP_DIR_H
#define TEMP_DIR_H

#include <stddef.h>

/* Makes a new directory and returns its path; temp_dir_remove deletes it with
 * everything in it. */
const char *temp_dir_make(void);
void temp_dir_remove(void);
/* DIR/name; one of a few static buffers, reused in turn. */
const char *temp_path(const char *name);
/* Writes DIR/name; directories in name are made. */
void temp_write(const char *name, const void *data, size_t bytes);
void temp_text(const char *name, const char *text);
void temp_mkdir(const char *name);
void temp_symlink(const char *target, const char *name);
void temp_unlink(const char *name);
/* Open descriptors of this process. */
int count_fds(void);

#endif
