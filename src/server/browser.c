/* browser.c - see browser.h. No state. */
#include "server/browser.h"

#include <arpa/inet.h>
#include <limits.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define NAME_BYTES 256

/* The name in "name", "name:port" or "[v6]:port", without a dot at its end. False:
 * it is none. */
static bool name_of(const char *text, char name[NAME_BYTES])
{
	size_t n;

	if (*text == '[') {
		text++;
		n = strcspn(text, "]");
	} else {
		n = strcspn(text, ":");
	}
	if (n >= NAME_BYTES)
		return false;
	memcpy(name, text, n);
	if (n > 0 && name[n - 1] == '.')
		n--;
	name[n] = '\0';
	return true;
}

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n >= m && strcasecmp(name + n - m, end) == 0;
}

static bool is_address(const char *name)
{
	struct in6_addr v6;
	struct in_addr v4;

	return inet_pton(AF_INET, name, &v4) == 1 || inet_pton(AF_INET6, name, &v6) == 1;
}

static bool is_loopback(const char *name)
{
	struct in_addr v4;

	if (inet_pton(AF_INET, name, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	return strcasecmp(name, "localhost") == 0 || ends_with(name, ".localhost") ||
	       strcmp(name, "::1") == 0;
}

/* One of the names between the commas. */
static bool is_listed(const char *name, const char *hosts)
{
	size_t length = strlen(name);

	for (; *hosts; hosts += strcspn(hosts, ",")) {
		hosts += strspn(hosts, ", ");
		if (strcspn(hosts, ", ") == length && strncasecmp(hosts, name, length) == 0)
			return true;
	}
	return false;
}

/* A name that no stranger can have in the world's DNS, or the operator's word. */
static bool is_ours(const char *name, const char *hosts)
{
	char own[HOST_NAME_MAX + 1] = "";

	if (!strchr(name, '.') || is_address(name) || ends_with(name, ".localhost") ||
	    is_listed(name, hosts))
		return true;
	return gethostname(own, sizeof(own) - 1) == 0 && strcasecmp(name, own) == 0;
}

static bool same_name(const char *a, const char *b)
{
	char x[NAME_BYTES], y[NAME_BYTES];

	return name_of(a, x) && name_of(b, y) && strcasecmp(x, y) == 0;
}

/* "http://name:port", or "null" of pages that hide theirs. */
static bool is_other_site(const struct vac_browser_head *head)
{
	const char *colon = strstr(head->origin, "://");
	char name[NAME_BYTES];

	if (!colon || !name_of(colon + 3, name))
		return true;
	return !is_loopback(name) && !(head->host && same_name(colon + 3, head->host));
}

#define REMEDY                                                                                     \
	"without keys any page that a user of this machine opens could use the server; give "      \
	"--api-key-file FILE, or say --allow-no-key yes if a proxy decides who may ask"

int vac_browser_check(const struct vac_browser_head *head, const char *hosts, struct vac_error *err)
{
	char name[NAME_BYTES];

	if (head->host && (!name_of(head->host, name) || !is_ours(name, hosts)))
		return vac_fail(err, VAC_E_INVALID,
				"Host: %.100s is no name of this machine; " REMEDY, head->host);
	if (!head->acts)
		return 0;
	/* Browsers of today say it outright. */
	if (head->fetch_site ? strcasecmp(head->fetch_site, "cross-site") == 0
			     : head->origin && is_other_site(head))
		return vac_fail(err, VAC_E_INVALID,
				"a page of another site (%.100s) sent this request; " REMEDY,
				head->origin ? head->origin : "it hides its name");
	return 0;
}
