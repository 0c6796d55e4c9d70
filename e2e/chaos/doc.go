// SPDX-License-Identifier: Apache-2.0

// Package chaos breaks everything around neighpin at once, on a real node, and looks afterwards whether what must always hold does.
//
// What goes wrong, and to whom, is drawn from a source whose seed is printed; the same seed draws the same faults again, in the same
// order. Each broken build of the second test shows that the first would see what it is there to see.
package chaos
