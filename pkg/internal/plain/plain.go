// SPDX-License-Identifier: Apache-2.0

// Package plain makes text that others chose, such as the names of links and
// paths, fit to be shown to people.
package plain

import "strconv"

// Is tells whether s is printable ASCII without blanks. A link's name may be nearly
// any bytes (net/core/dev.c, dev_valid_name).
func Is(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// Text returns s in a form that cannot break a log or a terminal: as it is, or
// quoted.
func Text(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}
