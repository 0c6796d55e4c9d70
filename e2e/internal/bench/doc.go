// SPDX-License-Identifier: Apache-2.0

// Package bench is the frame of `make bench`: sections that measure, and what becomes of their figures. A run
// prints each section's table, writes all of it to one file of JSON, and can put tables and plots into a document.
//
// Figures of one section come from one run in which the contenders took turns, so that what else the machine did
// met all of them alike; only ratios within a section mean something on another machine. No figure is asserted.
//
// The file of JSON is a [Report]; its fields are the schema. Schema is raised when a field changes its meaning.
package bench
