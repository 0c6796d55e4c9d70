// SPDX-License-Identifier: Apache-2.0

// Package workflows holds the test that reads .github/workflows as GitHub would. That they run targets of the Makefile and nothing
// else is a rule of internal/rules.
package workflows
