// SPDX-License-Identifier: Apache-2.0

#ifndef PIN_H
#define PIN_H

#include "annotation.h"

// netns_cookie is the cookie of the network namespace at path (Linux 5.14), or 0 with errno set. It leaves the calling
// thread in that namespace.
uint64_t netns_cookie(const char *path);

// pin enters the network namespace at path and makes every neighbor of the annotation permanent there, once all their
// links have been found. Its links must be up and stay as they are. Returns 0; else -1, and why says what failed: with
// a link that is missing nothing was written.
int pin(const char *path, const struct annotation *annotation, char why[128]);

#endif
