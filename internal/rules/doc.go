// SPDX-License-Identifier: Apache-2.0

// Package rules holds tests of the repository itself: which package may import
// which, what each file must have, and that the documents name only things that
// exist. It has no code of its own; a rule that cannot be tested stands in
// CONTRIBUTING.md instead.
package rules
