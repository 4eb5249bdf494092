/* test_browser.c - which requests are taken for those of a stranger's web page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/browser.h"

#define HOSTS "127.0.0.1, models.example.org"

static bool lets_in(const struct vac_browser_head *head, const char *word)
{
	struct vac_error err;

	if (vac_browser_check(head, HOSTS, &err) == 0)
		return true;
	assert_int_equal(err.code, VAC_E_INVALID);
	assert_non_null(strstr(err.message, word));
	assert_non_null(strstr(err.message, "--api-key-file"));
	return false;
}

/* A name that a stranger may have in the DNS leads here only when he wants it. */
static void test_hosts(void **state)
{
	static const char *const ours[] = {"localhost",
					   "localhost:8321",
					   "LocalHost.:8321",
					   "127.0.0.1:8321",
					   "192.168.1.7:80",
					   "[::1]:8321",
					   "[fe80::1]",
					   "vacate",
					   "a.b.localhost:1",
					   "Models.Example.Org:8321",
					   ""};
	static const char *const others[] = {
		"evil.com",  "evil.com:8321", "127.0.0.1.nip.io",   "localhost.evil.com",
		"evil.com.", "example.org",   "xmodels.example.org"};
	static char longest[400];

	(void)state;
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		assert_true(lets_in(&(struct vac_browser_head){.host = ours[i]}, ""));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_false(lets_in(&(struct vac_browser_head){.host = others[i]}, others[i]));
	memset(longest, 'a', sizeof(longest) - 1);
	assert_false(lets_in(&(struct vac_browser_head){.host = longest}, "Host: aaa"));
	assert_true(lets_in(&(struct vac_browser_head){0}, ""));
}

/* Whether a request that does something is let in. */
static bool does(const char *origin, const char *fetch_site)
{
	struct vac_browser_head head = {
		.host = "localhost:8321", .origin = origin, .fetch_site = fetch_site, .acts = true};

	return lets_in(&head, origin ? origin : "it hides its name");
}

static void test_pages(void **state)
{
	(void)state;
	assert_true(does(NULL, NULL)); /* no browser */
	assert_true(does("http://localhost:3000", NULL));
	assert_true(does("http://app.localhost", NULL));
	assert_true(does("http://127.0.0.1:8321", NULL));
	assert_true(does("http://[::1]:8321", NULL));
	assert_false(does("https://evil.com", NULL));
	assert_false(does("http://192.168.1.7", NULL));
	assert_false(does("http://wiki", NULL));
	assert_false(does("http://localhost.evil.com", NULL));
	assert_false(does("null", NULL));
	assert_false(does("", NULL));

	assert_true(does("http://localhost:3000", "same-site"));
	assert_true(does(NULL, "none"));
	assert_false(does("https://evil.com", "cross-site"));
	assert_false(does(NULL, "cross-site")); /* <img src=".../unload"> */
}

/* What only asks is answered: the page cannot read it. */
static void test_questions(void **state)
{
	(void)state;
	assert_true(lets_in(&(struct vac_browser_head){.host = "localhost",
						       .origin = "https://evil.com",
						       .fetch_site = "cross-site"},
			    ""));
	/* A page of the name that the server is reached by. */
	assert_true(lets_in(&(struct vac_browser_head){.host = "models.example.org:8321",
						       .origin = "https://models.example.org",
						       .acts = true},
			    ""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_questions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
