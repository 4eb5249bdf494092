/*
 * filter.c - makes a seccomp program of rules and installs it. See filter.h.
 *
 * A call's number is compared with each rule in turn; the kernel remembers which
 * calls are allowed whatever their arguments and does not run the program for
 * them, so that only few calls pay for its length.
 */
#include "worker/filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#endif

#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000U
#endif

/* As newer headers have them. */
#define FLAG_NEW_LISTENER (1UL << 3)
#define RET_USER_NOTIF    0x7fc00000U

/* ---- in words of C ---- */

static bool holds(enum vac_call_test test, uint64_t argument, uint32_t value)
{
	uint32_t low = (uint32_t)argument;

	switch (test) {
	case VAC_TEST_NONE:
		return true;
	case VAC_TEST_SELF:
		return low == (uint32_t)getpid();
	case VAC_TEST_EQUAL:
		return low == value;
	case VAC_TEST_CLEAR:
		return (low & value) == 0;
	case VAC_TEST_SET:
		return (low & value) == value;
	case VAC_TEST_NULL:
		return argument == 0;
	}
	return false;
}

static const struct vac_call_rule *match(const struct vac_call_rule *rules, size_t count,
					 int number, const uint64_t *arguments)
{
	for (size_t i = 0; i < count; i++) {
		const struct vac_call_rule *rule = &rules[i];
		bool fits = rule->number == number;

		for (size_t k = 0; fits && k < 2; k++)
			fits = holds(rule->tests[k].test, arguments[rule->tests[k].argument],
				     rule->tests[k].value);
		if (fits)
			return rule;
	}
	return NULL;
}

const struct vac_call_rule *vac_filter_match(const struct vac_call_rule *own, size_t own_count,
					     int number, const uint64_t *arguments)
{
	size_t count;
	const struct vac_call_rule *common = vac_common_calls(&count);
	const struct vac_call_rule *rule = match(own, own_count, number, arguments);

	return rule ? rule : match(common, count, number, arguments);
}

int vac_filter_number(const char *name)
{
	const struct vac_call_rule *tables[2];
	size_t counts[2];

	tables[0] = vac_cuda_calls(&counts[0]);
	tables[1] = vac_common_calls(&counts[1]);
	for (size_t k = 0; k < 2; k++)
		for (size_t i = 0; i < counts[k]; i++)
			if (strcmp(tables[k][i].name, name) == 0)
				return tables[k][i].number;
	return -1;
}

/* ---- as the kernel runs it ---- */

#ifdef OWN_ARCH

#define X32_BIT          0x40000000U
#define MAX_INSTRUCTIONS 1024

struct program {
	struct sock_filter code[MAX_INSTRUCTIONS];
	size_t length;
	bool full, trial;
	uint32_t self; /* process id */
};

static void emit(struct program *p, uint16_t code, uint8_t yes, uint8_t no, uint32_t k)
{
	if (p->length == MAX_INSTRUCTIONS) {
		p->full = true;
		return;
	}
	p->code[p->length++] = (struct sock_filter){.code = code, .jt = yes, .jf = no, .k = k};
}

static void load(struct program *p, size_t offset)
{
	emit(p, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

static void finish(struct program *p, uint32_t verdict)
{
	emit(p, BPF_RET | BPF_K, 0, 0, verdict);
}

/* Files that are opened are looked at even where the filter lets them be. */
static bool opens(const struct vac_call_rule *rule)
{
#ifdef SYS_open
	if (rule->number == SYS_open)
		return true;
#endif
	return rule->number == SYS_openat;
}

static uint32_t verdict_of(const struct program *p, const struct vac_call_rule *rule)
{
	bool error_is_answer =
		rule->action == VAC_CALL_ERRNO && (rule->error == ENOSYS || rule->error == EEXIST);

	if (p->trial && !error_is_answer && (rule->action != VAC_CALL_ALLOW || opens(rule)))
		return RET_USER_NOTIF;
	switch (rule->action) {
	case VAC_CALL_ALLOW:
		return SECCOMP_RET_ALLOW;
	case VAC_CALL_HOSTILE:
		return SECCOMP_RET_TRAP;
	case VAC_CALL_ERRNO:
		return SECCOMP_RET_ERRNO | ((uint32_t)rule->error & SECCOMP_RET_DATA);
	case VAC_CALL_KILL:
		break;
	}
	return SECCOMP_RET_KILL_PROCESS;
}

/* Where the halves of an argument lie; both architectures are little-endian. */
static size_t low_half(uint8_t argument)
{
	return offsetof(struct seccomp_data, args) + 8 * (size_t)argument;
}

/* One test: falls through when it holds, else jumps over `rest` instructions that
 * follow it. Returns how many it takes. */
static size_t test(struct program *p, enum vac_call_test test, uint8_t argument, uint32_t value,
		   size_t rest)
{
	uint8_t away = (uint8_t)rest;

	switch (test) {
	case VAC_TEST_NONE:
		return 0;
	case VAC_TEST_SELF:
		value = p->self;
		/* fall through */
	case VAC_TEST_EQUAL:
		load(p, low_half(argument));
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, away, value);
		return 2;
	case VAC_TEST_CLEAR:
		load(p, low_half(argument));
		emit(p, BPF_JMP | BPF_JSET | BPF_K, away, 0, value);
		return 2;
	case VAC_TEST_SET:
		load(p, low_half(argument));
		emit(p, BPF_ALU | BPF_AND | BPF_K, 0, 0, value);
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, away, value);
		return 3;
	case VAC_TEST_NULL:
		load(p, low_half(argument));
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, (uint8_t)(away + 2), 0);
		load(p, low_half(argument) + 4);
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, away, 0);
		return 4;
	}
	return 0;
}

static size_t test_length(enum vac_call_test test)
{
	static const uint8_t lengths[] = {
		[VAC_TEST_NONE] = 0, [VAC_TEST_EQUAL] = 2, [VAC_TEST_CLEAR] = 2,
		[VAC_TEST_SET] = 3,  [VAC_TEST_NULL] = 4,  [VAC_TEST_SELF] = 2};

	return lengths[test];
}

/* The call's number is in the accumulator before and after. */
static void add_rule(struct program *p, const struct vac_call_rule *rule)
{
	size_t second = test_length(rule->tests[1].test);
	size_t tests = test_length(rule->tests[0].test) + second;

	/* Not this number: over the tests and the verdict, and over what loads the
	 * number again behind tests. */
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, (uint8_t)(tests + 1 + (tests > 0)),
	     (uint32_t)rule->number);
	test(p, rule->tests[0].test, rule->tests[0].argument, rule->tests[0].value, second + 1);
	test(p, rule->tests[1].test, rule->tests[1].argument, rule->tests[1].value, 1);
	finish(p, verdict_of(p, rule));
	if (tests > 0)
		load(p, offsetof(struct seccomp_data, nr));
}

static void compose(struct program *p, const struct vac_call_rule *own, size_t own_count)
{
	size_t count;
	const struct vac_call_rule *common = vac_common_calls(&count);

	/* The same number is another call in another architecture's table. */
	load(p, offsetof(struct seccomp_data, arch));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, OWN_ARCH);
	finish(p, SECCOMP_RET_KILL_PROCESS);
	load(p, offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
	emit(p, BPF_JMP | BPF_JGE | BPF_K, 0, 1, X32_BIT);
	finish(p, SECCOMP_RET_KILL_PROCESS);
#endif
	for (size_t i = 0; i < own_count; i++)
		add_rule(p, &own[i]);
	for (size_t i = 0; i < count; i++)
		add_rule(p, &common[i]);
	finish(p, p->trial ? RET_USER_NOTIF : SECCOMP_RET_ERRNO | ENOSYS);
}

int vac_filter_install(const struct vac_call_rule *own, size_t own_count, int *listener,
		       const char **why)
{
	struct program program = {.self = (uint32_t)getpid(), .trial = listener != NULL};
	struct sock_fprog code = {.filter = program.code};
	long rc;

	compose(&program, own, own_count);
	if (program.full) {
		*why = "the rules are too many";
		return -E2BIG;
	}
	code.len = (unsigned short)program.length;
	rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		     listener ? FLAG_NEW_LISTENER : SECCOMP_FILTER_FLAG_TSYNC, &code);
	if (rc >= 0 && listener)
		*listener = (int)rc;
	if (rc == 0 || (rc > 0 && listener))
		return 0;
	*why = rc > 0            ? "a thread cannot be confined"
	       : errno == ENOSYS ? "not in this kernel"
	       : errno == EINVAL ? "the kernel does not take filters"
				 : "refused by the system";
	return rc > 0 ? -ESRCH : -errno;
}

#else /* no table of calls for this architecture */

int vac_filter_install(const struct vac_call_rule *own, size_t own_count, int *listener,
		       const char **why)
{
	(void)own;
	(void)own_count;
	(void)listener;
	*why = "no filter for this architecture";
	return -ENOSYS;
}

#endif
