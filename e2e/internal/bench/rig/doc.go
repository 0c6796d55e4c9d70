// SPDX-License-Identifier: Apache-2.0

// Package rig is what several sections are built of: neighpin in a process of its own (Daemon), the runtime's side of NRI in this one
// (Runtime), children of this program that take orders (Child), pods that are network namespaces (Space) and NRI's word for
// them (Sandbox), and what has to be installed and built beforehand (Prepare).
//
// Nothing here measures: what a figure means is the business of the section that takes it.
package rig
