/*
 * filter.h - the filter of system calls (seccomp with classic BPF): rules, and
 * the program made of them. The worker's one thread, before its team exists.
 */
#ifndef VAC_WORKER_FILTER_H
#define VAC_WORKER_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum vac_call_action {
	VAC_CALL_ALLOW,
	VAC_CALL_HOSTILE, /* nothing that a worker does: it ends, and says which call it was */
	VAC_CALL_KILL,    /* the same, on the spot */
	VAC_CALL_ERRNO,   /* fails with the rule's error */
};

enum vac_call_test {
	VAC_TEST_NONE,
	VAC_TEST_EQUAL, /* the argument's low 32 bits are the value */
	VAC_TEST_CLEAR, /* none of the value's bits are set in them */
	VAC_TEST_SET,   /* all of them are */
	VAC_TEST_NULL,  /* all 64 bits are 0 */
	VAC_TEST_SELF,  /* it is this process's id */
};

/* The first rule whose number and tests fit decides. */
struct vac_call_rule {
	char name[24]; /* in place: no relocation makes a private page of the table */
	int number;
	enum vac_call_action action;
	int error; /* VAC_CALL_ERRNO */
	struct {
		enum vac_call_test test;
		uint8_t argument; /* from 0 */
		uint32_t value;
	} tests[2];
};

/* What the backend cuda's libraries do besides. */
const struct vac_call_rule *vac_cuda_calls(size_t *count);
/* What every worker does. socket is the one descriptor that is spoken on. */
const struct vac_call_rule *vac_common_calls(size_t *count);
#define VAC_FILTER_SOCKET 3

/* The rule that decides on a call with these six arguments, as the filter does; NULL: none
 * fits. */
const struct vac_call_rule *vac_filter_match(const struct vac_call_rule *own, size_t own_count,
					     int number, const uint64_t *arguments);
/* A call's number by its name in the tables here; negative: it is in none. */
int vac_filter_number(const char *name);

/* Installs the rules of own (may be NULL), then the common ones; what none fits
 * fails with ENOSYS. A call of another architecture's kills. For all threads of
 * the process. 0, or a negative errno with a word for people in *why.
 *
 * listener: NULL, or for a trial (trial.h). What would be refused, and the opening of
 * files, is asked of whoever reads it; for the calling thread and those that it makes. */
int vac_filter_install(const struct vac_call_rule *own, size_t own_count, int *listener,
		       const char **why);

#endif
