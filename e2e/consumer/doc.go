// SPDX-License-Identifier: Apache-2.0

// Package consumer tests a second reader of the annotation: src, a program in C that was written from docs/annotation.md and
// docs/runtime-authors.md alone, with no code of neighpin's, as the author of another runtime would write it. What the
// documents leave open shows here, and is to be mended there.
package consumer
