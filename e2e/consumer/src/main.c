// SPDX-License-Identifier: Apache-2.0

// consumer is what a runtime does with the annotation io.neighpin.neighbors, in C, from the documents alone.
//
//	consumer check                          reads a value from standard input, and lists its neighbors
//	consumer apply CONFIG.JSON NAMESPACE    pins the neighbors of a bundle in the runtime's own network namespace
//
// It exits with 0 when all went well or there was nothing to do, 1 when it could not be done, and 2 or 3 when the value is
// refused (enum verdict); 4 when the annotation speaks of another network namespace than the bundle's. Unless it is 0
// or 1, nothing was written.

#include "annotation.h"
#include "pin.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DONE = 0, FAILED = 1, OTHER_NAMESPACE = 4 };

// The annotation and its 256 neighbors need no allocation, and no place on the stack.
static struct annotation annotation;

static int check(void)
{
	static char value[ANNOTATION_MAX_BYTES + 1]; // one more than is allowed, to see that there is more
	char why[128];
	size_t size = fread(value, 1, sizeof value, stdin);
	if (ferror(stdin)) {
		fprintf(stderr, "consumer: read standard input: %s\n", strerror(errno));
		return FAILED;
	}
	enum verdict verdict = annotation_parse(value, size, &annotation, why);
	if (verdict != ANNOTATION_VALID) {
		fprintf(stderr, "consumer: %s: %s\n", ANNOTATION_KEY, why);
		return verdict;
	}
	printf("cookie %" PRIu64 "\n", annotation.cookie);
	for (size_t i = 0; i < annotation.count; i++) {
		const struct neighbor *n = &annotation.neighbors[i];
		printf("%s dev %s lladdr %02x:%02x:%02x:%02x:%02x:%02x PERMANENT\n", n->text, n->dev, n->lladdr[0], n->lladdr[1],
		       n->lladdr[2], n->lladdr[3], n->lladdr[4], n->lladdr[5]);
	}
	return DONE;
}

// network_path is the path of the network namespace that the bundle names, or NULL.
static const char *network_path(json_t *config)
{
	size_t i;
	json_t *namespace;
	json_array_foreach(json_object_get(json_object_get(config, "linux"), "namespaces"), i, namespace) {
		const char *type = json_string_value(json_object_get(namespace, "type"));
		if (type != NULL && strcmp(type, "network") == 0)
			return json_string_value(json_object_get(namespace, "path"));
	}
	return NULL;
}

static int apply_config(json_t *config, const char *own)
{
	char why[128];
	json_t *value = json_object_get(json_object_get(config, "annotations"), ANNOTATION_KEY);
	const char *pod = network_path(config);
	if (value == NULL)
		return DONE; // neighpin has not been here
	if (!json_is_string(value)) {
		fprintf(stderr, "consumer: %s: want a string\n", ANNOTATION_KEY);
		return ANNOTATION_MALFORMED;
	}
	enum verdict verdict = annotation_parse(json_string_value(value), json_string_length(value), &annotation, why);
	if (verdict != ANNOTATION_VALID) {
		fprintf(stderr, "consumer: %s: %s\n", ANNOTATION_KEY, why);
		return verdict;
	}
	if (pod == NULL) {
		fprintf(stderr, "consumer: the bundle names no network namespace that the cookie could be compared with\n");
		return OTHER_NAMESPACE;
	}
	uint64_t cookie = netns_cookie(pod);
	if (cookie == 0) {
		fprintf(stderr, "consumer: ask the bundle's network namespace for its cookie: %s\n", strerror(errno));
		return FAILED;
	}
	if (cookie != annotation.cookie) {
		fprintf(stderr, "consumer: the neighbors are those of namespace %" PRIu64 ", the bundle's is %" PRIu64 "\n",
			annotation.cookie, cookie);
		return OTHER_NAMESPACE;
	}
	if (pin(own, &annotation, why) < 0) {
		fprintf(stderr, "consumer: %s\n", why);
		return FAILED;
	}
	return DONE;
}

static int apply(const char *path, const char *own)
{
	json_error_t error;
	// Other annotations are other people's, and may hold what Jansson would refuse.
	json_t *config = json_load_file(path, JSON_ALLOW_NUL, &error);
	if (config == NULL) {
		fprintf(stderr, "consumer: read the bundle's configuration: %s\n", error.text);
		return FAILED;
	}
	int code = apply_config(config, own);
	json_decref(config);
	return code;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "check") == 0)
		return check();
	if (argc == 4 && strcmp(argv[1], "apply") == 0)
		return apply(argv[2], argv[3]);
	fprintf(stderr, "usage: consumer check < VALUE | consumer apply CONFIG.JSON NAMESPACE\n");
	return FAILED;
}
