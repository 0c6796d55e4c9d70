// SPDX-License-Identifier: Apache-2.0

// Package observability tests deploy/observability by Prometheus' own promtool: the rules are valid, and each alert
// fires when it should and else stays quiet. That they name only metrics which exist is tested in pkg/metrics.
package observability
