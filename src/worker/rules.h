/*
 * rules.h - how the tables of system calls are written: the first rule whose number and
 * tests fit decides. Only for the files that are such tables.
 */
#ifndef VAC_WORKER_RULES_H
#define VAC_WORKER_RULES_H

#include <sys/syscall.h>

#include "worker/filter.h"

#define ALLOW(call)                                                                                \
	{                                                                                          \
		.name = #call, .number = SYS_##call, .action = VAC_CALL_ALLOW                      \
	}
#define ALLOW_IF(call, test_, argument_, value_)                                                   \
	{                                                                                          \
		.name = #call, .number = SYS_##call, .action = VAC_CALL_ALLOW, .tests = {          \
			{VAC_TEST_##test_, argument_, value_}                                      \
		}                                                                                  \
	}
#define ALLOW_IF2(call, test_, argument_, value_, test2_, argument2_, value2_)                     \
	{                                                                                          \
		.name = #call, .number = SYS_##call, .action = VAC_CALL_ALLOW, .tests = {          \
			{VAC_TEST_##test_, argument_, value_},                                     \
			{VAC_TEST_##test2_, argument2_, value2_}                                   \
		}                                                                                  \
	}
#define FAIL(call, error_)                                                                         \
	{                                                                                          \
		.name = #call, .number = SYS_##call, .action = VAC_CALL_ERRNO, .error = error_     \
	}
#define FAIL_IF(call, error_, test_, argument_, value_)                                            \
	{                                                                                          \
		.name = #call, .number = SYS_##call, .action = VAC_CALL_ERRNO, .error = error_,    \
		.tests = {                                                                         \
			{VAC_TEST_##test_, argument_, value_}                                      \
		}                                                                                  \
	}
#define HOSTILE(call)                                                                              \
	{                                                                                          \
		.name = #call, .number = SYS_##call, .action = VAC_CALL_HOSTILE                    \
	}
#define HOSTILE_IF(call, test_, argument_, value_)                                                 \
	{                                                                                          \
		.name = #call, .number = SYS_##call, .action = VAC_CALL_HOSTILE, .tests = {        \
			{VAC_TEST_##test_, argument_, value_}                                      \
		}                                                                                  \
	}
#define HOSTILE_IF2(call, test_, argument_, value_, test2_, argument2_, value2_)                   \
	{                                                                                          \
		.name = #call, .number = SYS_##call, .action = VAC_CALL_HOSTILE, .tests = {        \
			{VAC_TEST_##test_, argument_, value_},                                     \
			{VAC_TEST_##test2_, argument2_, value2_}                                   \
		}                                                                                  \
	}
#define KILL(call)                                                                                 \
	{                                                                                          \
		.name = #call, .number = SYS_##call, .action = VAC_CALL_KILL                       \
	}

#endif
