// SPDX-License-Identifier: Apache-2.0

// Jansson does what the document asks of a JSON parser: with JSON_REJECT_DUPLICATES no key occurs twice, in whatever
// spelling; keys match with regard to case; integers and reals are different things; text after the value is an error.
// Its integers are signed: a cookie above 2^63-1 is refused, which the kernel, counting from 1, will not reach.

#include "annotation.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static enum verdict refuse(char why[128], const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(why, 128, format, args);
	va_end(args);
	return ANNOTATION_MALFORMED;
}

// only_keys is whether the object has exactly these keys; its own are distinct.
static bool only_keys(json_t *object, const char *const *keys, size_t count)
{
	if (!json_is_object(object) || json_object_size(object) != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (json_object_get(object, keys[i]) == NULL)
			return false;
	return true;
}

// text is the object's string of that key, or NULL. Jansson has refused strings with a zero byte.
static const char *text(json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

// number reads the digits at s up to end, all of them.
static bool number(const char *s, int digits, int *out)
{
	*out = 0;
	for (int i = 0; i < digits; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		*out = *out * 10 + (s[i] - '0');
	}
	return true;
}

static int days_of(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
		return 29;
	return days[month - 1];
}

// is_time is whether s is like 2026-11-22T00:18:00.123456789Z and a moment that there was.
static bool is_time(const char *s)
{
	const char *whole = s;
	int year, month, day, hour, minute, second;
	size_t length = strlen(s);
	if (length < 20 || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':')
		return false;
	if (!number(s, 4, &year) || !number(s + 5, 2, &month) || !number(s + 8, 2, &day) || !number(s + 11, 2, &hour) ||
	    !number(s + 14, 2, &minute) || !number(s + 17, 2, &second))
		return false;
	if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_of(year, month) || hour > 23 || minute > 59 || second > 59)
		return false;
	s += 19;
	if (*s == '.') {
		size_t digits = strspn(++s, "0123456789");
		if (digits < 1 || digits > 9 || s[digits - 1] == '0')
			return false;
		s += digits;
	}
	return strcmp(s, "Z") == 0 && strcmp(whole, "0001-01-01T00:00:00Z") != 0;
}

// canonical_ipv6 writes the one form that is allowed. glibc's inet_ntop writes addresses of ::/96 with a dotted quad at
// their end, which is not it.
static void canonical_ipv6(const struct in6_addr *address, char canonical[INET6_ADDRSTRLEN])
{
	const uint8_t *b = address->s6_addr;
	int high = b[12] << 8 | b[13], low = b[14] << 8 | b[15];
	if (!IN6_IS_ADDR_V4COMPAT(address))
		inet_ntop(AF_INET6, address, canonical, INET6_ADDRSTRLEN);
	else if (high != 0)
		snprintf(canonical, INET6_ADDRSTRLEN, "::%x:%x", (unsigned)high, (unsigned)low);
	else
		snprintf(canonical, INET6_ADDRSTRLEN, "::%x", (unsigned)low);
}

// read_dst reads a unicast address in canonical form.
static bool read_dst(const char *s, struct neighbor *n)
{
	char canonical[INET6_ADDRSTRLEN];
	if (inet_pton(AF_INET, s, &n->dst.v4) == 1) {
		uint32_t address = ntohl(n->dst.v4.s_addr);
		n->family = AF_INET;
		if (address == INADDR_ANY || address == INADDR_BROADCAST || IN_MULTICAST(address) || address >> 24 == IN_LOOPBACKNET)
			return false;
		inet_ntop(AF_INET, &n->dst.v4, canonical, sizeof canonical);
	} else if (inet_pton(AF_INET6, s, &n->dst.v6) == 1) {
		n->family = AF_INET6;
		if (IN6_IS_ADDR_UNSPECIFIED(&n->dst.v6) || IN6_IS_ADDR_LOOPBACK(&n->dst.v6) || IN6_IS_ADDR_MULTICAST(&n->dst.v6) ||
		    IN6_IS_ADDR_V4MAPPED(&n->dst.v6))
			return false;
		canonical_ipv6(&n->dst.v6, canonical);
	} else {
		return false;
	}
	if (strcmp(canonical, s) != 0)
		return false;
	strcpy(n->text, canonical);
	return true;
}

static bool read_dev(const char *s, struct neighbor *n)
{
	size_t length = strlen(s);
	if (length < 1 || length >= IF_NAMESIZE || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
		return false;
	for (size_t i = 0; i < length; i++)
		if (s[i] <= ' ' || s[i] >= 0x7f || s[i] == '/' || s[i] == ':')
			return false;
	strcpy(n->dev, s);
	return true;
}

static int hex(char c)
{
	const char *digits = "0123456789abcdef", *at = c != '\0' ? strchr(digits, c) : NULL;
	return at != NULL ? (int)(at - digits) : -1;
}

static bool read_lladdr(const char *s, struct neighbor *n)
{
	static const unsigned char zero[6];
	if (strlen(s) != 17)
		return false;
	for (int i = 0; i < 6; i++, s += 3) {
		if (hex(s[0]) < 0 || hex(s[1]) < 0 || (i < 5 && s[2] != ':'))
			return false;
		n->lladdr[i] = (unsigned char)(hex(s[0]) << 4 | hex(s[1]));
	}
	return (n->lladdr[0] & 1) == 0 && memcmp(n->lladdr, zero, 6) != 0;
}

static bool is_permanent(json_t *state)
{
	const char *only = json_string_value(json_array_get(state, 0));
	return json_array_size(state) == 1 && only != NULL && strcmp(only, "PERMANENT") == 0;
}

static bool is_source(const char *s)
{
	static const char *const sources[] = {"peer", "port", "host", "existing", "learned"};
	for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
		if (strcmp(s, sources[i]) == 0)
			return true;
	return false;
}

static enum verdict read_neighbor(json_t *from, size_t i, struct annotation *out, char why[128])
{
	static const char *const keys[] = {"dst", "dev", "lladdr", "state", "source"};
	struct neighbor *n = &out->neighbors[i];
	if (!only_keys(from, keys, 5))
		return refuse(why, "neighbors[%zu]: want dst, dev, lladdr, state and source, and nothing else", i);
	if (text(from, "dst") == NULL || !read_dst(text(from, "dst"), n))
		return refuse(why, "neighbors[%zu].dst: want a unicast address in canonical form", i);
	if (text(from, "dev") == NULL || !read_dev(text(from, "dev"), n))
		return refuse(why, "neighbors[%zu].dev: want the name of a link", i);
	if (text(from, "lladdr") == NULL || !read_lladdr(text(from, "lladdr"), n))
		return refuse(why, "neighbors[%zu].lladdr: want six bytes in lower case, no group's", i);
	if (!is_permanent(json_object_get(from, "state")))
		return refuse(why, "neighbors[%zu].state: want [\"PERMANENT\"]", i);
	if (text(from, "source") == NULL || !is_source(text(from, "source")))
		return refuse(why, "neighbors[%zu].source: not one of version 1", i);
	for (size_t j = 0; j < i; j++)
		if (strcmp(out->neighbors[j].text, n->text) == 0 && strcmp(out->neighbors[j].dev, n->dev) == 0)
			return refuse(why, "neighbors[%zu]: dst and dev are those of neighbors[%zu]", i, j);
	return ANNOTATION_VALID;
}

static enum verdict read_object(json_t *root, struct annotation *out, char why[128])
{
	static const char *const keys[] = {"version", "cookie", "capturedAt", "neighbors"};
	json_t *version = json_object_get(root, "version"), *neighbors = json_object_get(root, "neighbors");
	if (json_is_integer(version) && json_integer_value(version) != 1) {
		refuse(why, "version %" JSON_INTEGER_FORMAT ": this program knows version 1", json_integer_value(version));
		return ANNOTATION_OTHER_VERSION;
	}
	if (!only_keys(root, keys, 4))
		return refuse(why, "want version, cookie, capturedAt and neighbors, and nothing else");
	if (!json_is_integer(version))
		return refuse(why, "version: want an integer");
	if (!json_is_integer(json_object_get(root, "cookie")) || json_integer_value(json_object_get(root, "cookie")) < 1)
		return refuse(why, "cookie: want a positive integer");
	out->cookie = (uint64_t)json_integer_value(json_object_get(root, "cookie"));
	if (text(root, "capturedAt") == NULL || !is_time(text(root, "capturedAt")))
		return refuse(why, "capturedAt: want a moment in UTC, as RFC 3339 writes it");
	if (!json_is_array(neighbors) || json_array_size(neighbors) > ANNOTATION_MAX_NEIGHBORS)
		return refuse(why, "neighbors: want a list of at most %d", ANNOTATION_MAX_NEIGHBORS);
	out->count = json_array_size(neighbors);
	for (size_t i = 0; i < out->count; i++) {
		enum verdict verdict = read_neighbor(json_array_get(neighbors, i), i, out, why);
		if (verdict != ANNOTATION_VALID)
			return verdict;
	}
	return ANNOTATION_VALID;
}

enum verdict annotation_parse(const char *value, size_t size, struct annotation *out, char why[128])
{
	json_error_t error;
	memset(out, 0, sizeof *out);
	if (size > ANNOTATION_MAX_BYTES)
		return refuse(why, "%zu bytes, at most %d are allowed", size, ANNOTATION_MAX_BYTES);
	json_t *root = json_loadb(value, size, JSON_REJECT_DUPLICATES, &error);
	if (root == NULL) // error.text may quote the value
		return refuse(why, "not JSON as it should be, at byte %d", error.position);
	enum verdict verdict = read_object(root, out, why);
	json_decref(root);
	return verdict;
}
