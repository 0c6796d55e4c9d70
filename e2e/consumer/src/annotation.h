// SPDX-License-Identifier: Apache-2.0

// The annotation io.neighpin.neighbors as docs/annotation.md says it, and nothing that the document does not say.

#ifndef ANNOTATION_H
#define ANNOTATION_H

#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#define ANNOTATION_KEY "io.neighpin.neighbors"
#define ANNOTATION_MAX_BYTES 65536
#define ANNOTATION_MAX_NEIGHBORS 256

struct neighbor {
	int family; // AF_INET or AF_INET6
	union {
		struct in_addr v4;
		struct in6_addr v6;
	} dst;
	char text[INET6_ADDRSTRLEN]; // dst, as it was written
	char dev[IF_NAMESIZE];
	unsigned char lladdr[6];
};

struct annotation {
	uint64_t cookie;
	size_t count;
	struct neighbor neighbors[ANNOTATION_MAX_NEIGHBORS];
};

enum verdict {
	ANNOTATION_VALID = 0,
	ANNOTATION_MALFORMED = 2,   // whoever wrote it is to blame
	ANNOTATION_OTHER_VERSION = 3 // this program is too old for it
};

// annotation_parse reads a value of size bytes. Unless it returns ANNOTATION_VALID, why says what is wrong, in
// printable ASCII that holds no byte of the value, and *out is not to be used.
enum verdict annotation_parse(const char *value, size_t size, struct annotation *out, char why[128]);

#endif
