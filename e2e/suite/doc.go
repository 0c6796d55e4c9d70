// SPDX-License-Identifier: Apache-2.0

// Package suite holds the tests that drive a real containerd with runc and gVisor, through the CRI, with
// neighpin beside it: one file per theme. Each case has a control that shows what it would look like to fail.
package suite
