/*
 * test_keyfile.c - files of API keys: what is taken, each error with its place,
 * who may own them, and which given key is found.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/keyfile.h"
#include "fail_alloc.h"
#include "temp_dir.h"

#define KEY_A "aaaaaaaaaaaaaaaa"
#define KEY_B "0123456789abcdef0123456789abcdef"

static int parse(const char *text, struct vac_keys *keys, struct vac_error *err)
{
	*keys = (struct vac_keys){0};
	return vac_keys_parse("FILE", text, strlen(text), keys, err);
}

static void test_accepts(void **state)
{
	struct vac_keys keys;
	struct vac_error err;

	(void)state;
	assert_int_equal(parse("# for the demo\n\n " KEY_A "\t\r\n\t# more\n" KEY_B, &keys, &err),
			 0);
	assert_int_equal(keys.count, 2);
	assert_string_equal(keys.keys[0].text, KEY_A);
	assert_int_equal(keys.keys[0].line, 3);
	assert_string_equal(keys.keys[1].text, KEY_B);
	assert_int_equal(keys.keys[1].line, 5);
	vac_keys_free(&keys);
	assert_null(keys.keys);
	/* Every printable character; one that is # only where it begins a line. */
	assert_int_equal(parse("!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~\\\n", &keys, &err), 0);
	assert_int_equal(keys.keys[0].bytes, 32);
	vac_keys_free(&keys);
}

static void test_lengths(void **state)
{
	char text[VAC_KEY_MAX_BYTES + 2];
	struct vac_keys keys;
	struct vac_error err;

	(void)state;
	memset(text, 'k', sizeof(text));
	text[VAC_KEY_MAX_BYTES + 1] = '\0';
	assert_int_equal(parse(text, &keys, &err), -EINVAL);
	assert_non_null(strstr(err.message, "257 characters where 16 to 256"));
	text[VAC_KEY_MAX_BYTES] = '\0';
	assert_int_equal(parse(text, &keys, &err), 0);
	assert_true(vac_keys_match(&keys, text, VAC_KEY_MAX_BYTES));
	assert_false(vac_keys_match(&keys, text, VAC_KEY_MAX_BYTES - 1));
	text[VAC_KEY_MAX_BYTES] = 'k'; /* a longer one whose beginning is a key */
	assert_false(vac_keys_match(&keys, text, VAC_KEY_MAX_BYTES + 1));
	assert_false(vac_keys_match(&keys, text, sizeof(text)));
	vac_keys_free(&keys);
}

static void test_errors(void **state)
{
	static const struct {
		const char *text;
		enum vac_error_code code;
		const char *where;
	} cases[] = {
		{"", VAC_E_INVALID, "FILE: there is no key in it"},
		{"\n\n# only this\n \t\r\n", VAC_E_INVALID, "FILE: there is no key in it"},
		{"#\n" KEY_A " " KEY_B "\n", VAC_E_INVALID, "line 2, column 17: there is a space"},
		{"  " KEY_A "\tx\n", VAC_E_INVALID, "line 1, column 19: there is a space"},
		{KEY_A "\n" KEY_A "\xc3\xa4\n", VAC_E_INVALID, "line 2, column 17: byte 0xc3"},
		{"\xef\xbb\xbf" KEY_A "\n", VAC_E_INVALID, "line 1, column 1: byte 0xef"},
		{KEY_A "\x01\n", VAC_E_INVALID, "line 1, column 17: byte 0x01"},
		{KEY_A "\x7f", VAC_E_INVALID, "line 1, column 17: byte 0x7f"},
		{"\n\naaaaaaaaaaaaaaa\n", VAC_E_INVALID, "line 3: the key has 15 characters"},
		{KEY_A "\n" KEY_B "\n" KEY_A "\n", VAC_E_INVALID, "line 3 has the key of line 1"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vac_error err = {0};
		struct vac_keys keys;

		assert_int_equal(parse(cases[i].text, &keys, &err), vac_error_errno(cases[i].code));
		assert_int_equal(err.code, cases[i].code);
		if (!strstr(err.message, cases[i].where))
			fail_msg("%s", err.message);
		/* What was in the file is nobody's business. */
		assert_null(strstr(err.message, "aaaaa"));
		assert_null(strstr(err.message, "01234"));
		assert_null(keys.keys);
	}
}

static void test_zero_byte(void **state)
{
	static const char text[] = KEY_A "\0b\n";
	struct vac_keys keys = {0};
	struct vac_error err;

	(void)state;
	assert_int_equal(vac_keys_parse("FILE", text, sizeof(text) - 1, &keys, &err), -EINVAL);
	assert_non_null(strstr(err.message, "line 1, column 17: byte 0x00"));
}

static void test_many(void **state)
{
	char text[(VAC_KEYS_MAX + 1) * 21 + 1] = "";
	struct vac_keys keys = {0};
	struct vac_error err;
	size_t at = 0;

	(void)state;
	for (int i = 0; i <= VAC_KEYS_MAX; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "key-number-%09d\n", i);
	assert_int_equal(vac_keys_parse("FILE", text, at, &keys, &err), -E2BIG);
	assert_non_null(strstr(err.message, "line 257: more than 256 keys"));
	at -= 21;
	assert_int_equal(vac_keys_parse("FILE", text, at, &keys, &err), 0);
	assert_int_equal(keys.count, VAC_KEYS_MAX);
	assert_true(vac_keys_match(&keys, "key-number-000000000", 20));
	assert_true(vac_keys_match(&keys, "key-number-000000255", 20));
	assert_false(vac_keys_match(&keys, "key-number-000000256", 20));
	vac_keys_free(&keys);
}

/* A key is found whole: each byte counts, and so does the length. */
static void test_match(void **state)
{
	char text[] = KEY_B;
	const size_t length = strlen(text);
	struct vac_keys keys, none = {0};
	struct vac_error err;

	(void)state;
	assert_int_equal(parse(KEY_A "\n" KEY_B "\n", &keys, &err), 0);
	assert_true(vac_keys_match(&keys, KEY_A, strlen(KEY_A)));
	assert_true(vac_keys_match(&keys, text, length));
	for (size_t i = 0; i < length; i++) {
		assert_false(vac_keys_match(&keys, text, i));
		for (int bit = 0; bit < 8; bit++) {
			text[i] ^= (char)(1 << bit);
			assert_false(vac_keys_match(&keys, text, length));
			text[i] ^= (char)(1 << bit);
		}
	}
	/* With the zero behind it, as padding has it, it is another. */
	assert_false(vac_keys_match(&keys, text, length + 1));
	assert_false(vac_keys_match(&keys, "", 0));
	assert_false(vac_keys_match(&none, text, length));
	assert_false(vac_keys_match(&none, "", 0));
	vac_keys_free(&keys);
}

static int read_mode(mode_t mode, struct vac_error *err)
{
	struct vac_keys keys = {0};
	int rc;

	assert_int_equal(chmod(temp_path("keys"), mode), 0);
	rc = vac_keys_read(temp_path("keys"), &keys, err);
	if (rc == 0) {
		assert_int_equal(keys.count, 1);
		assert_string_equal(keys.keys[0].text, KEY_A);
	}
	vac_keys_free(&keys);
	return rc;
}

static void test_owner_and_mode(void **state)
{
	static const mode_t others[] = {0644, 0604, 0602, 0601, 0660, 0620, 0610, 0606, 0777};
	const bool root = geteuid() == 0;
	struct vac_error err;

	(void)state;
	temp_dir_make();
	temp_text("keys", KEY_A "\n");
	assert_int_equal(read_mode(0600, &err), 0);
	assert_int_equal(read_mode(0400, &err), 0);
	/* root's file may be read by its group. */
	assert_int_equal(read_mode(0640, &err), root ? 0 : -EINVAL);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		char mode[16];

		assert_int_equal(read_mode(others[i], &err), -EINVAL);
		snprintf(mode, sizeof(mode), "mode 0%o ", (unsigned int)others[i]);
		assert_non_null(strstr(err.message, mode));
		assert_non_null(strstr(err.message, "/keys: "));
	}
	if (root) {
		assert_int_equal(chown(temp_path("keys"), 12345, 0), 0);
		assert_int_equal(read_mode(0600, &err), -EINVAL);
		assert_non_null(strstr(err.message, "belongs to user 12345"));
	}
	temp_dir_remove();
}

static void test_files(void **state)
{
	const char *large = temp_dir_make();
	struct vac_keys keys = {0};
	struct vac_error err;
	int before = count_fds();

	(void)state;
	assert_int_equal(vac_keys_read(temp_path("none"), &keys, &err), -ENOENT);
	assert_non_null(strstr(err.message, "/none: "));
	assert_int_equal(vac_keys_read(large, &keys, &err), -EINVAL);
	assert_non_null(strstr(err.message, "not a regular file"));
	temp_text("keys", "");
	assert_int_equal(chmod(temp_path("keys"), 0600), 0);
	assert_int_equal(vac_keys_read(temp_path("keys"), &keys, &err), -EINVAL);
	assert_non_null(strstr(err.message, "no key"));
	assert_int_equal(truncate(temp_path("keys"), (off_t)VAC_KEYS_MAX_FILE_BYTES + 1), 0);
	assert_int_equal(vac_keys_read(temp_path("keys"), &keys, &err), -E2BIG);
	assert_non_null(strstr(err.message, "1048577 bytes"));
	assert_null(keys.keys);
	assert_int_equal(count_fds(), before);
	temp_dir_remove();
}

/* Each allocation fails in turn: an error, nothing left, and then success. */
static void test_no_memory(void **state)
{
	struct vac_keys keys = {0};
	struct vac_error err;
	int rc = -ENOMEM, failed = 0;

	(void)state;
	temp_dir_make();
	temp_text("keys", KEY_A "\n" KEY_B "\n");
	assert_int_equal(chmod(temp_path("keys"), 0600), 0);
	for (unsigned long n = 0; rc != 0 && n < 10; n++) {
		const char *path = temp_path("keys");
		long live = fail_live();

		fail_after(n);
		rc = vac_keys_read(path, &keys, &err);
		fail_never();
		if (rc != 0) {
			assert_int_equal(rc, -ENOMEM);
			assert_int_equal(err.code, VAC_E_NO_ROOM);
			assert_int_equal(fail_live(), live);
			failed++;
		}
	}
	assert_int_equal(rc, 0);
	assert_int_equal(failed, 3);
	vac_keys_free(&keys);
	temp_dir_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepts),        cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_errors),         cmocka_unit_test(test_zero_byte),
		cmocka_unit_test(test_many),           cmocka_unit_test(test_match),
		cmocka_unit_test(test_owner_and_mode), cmocka_unit_test(test_files),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
