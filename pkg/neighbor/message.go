// SPDX-License-Identifier: Apache-2.0

package neighbor

import "strconv"

// isPlain tells whether s is printable ASCII. A link's name may be nearly any
// bytes (net/core/dev.c, dev_valid_name).
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// printable returns s in a form that cannot break a log or a terminal.
func printable(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}
