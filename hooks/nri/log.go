// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"context"

	"github.com/sirupsen/logrus"
)

// stubLogger hands the stub's own messages on as details: what matters of them
// the connector says itself, once, while the stub says it at each attempt.
type stubLogger struct{ log logrus.FieldLogger }

func (l stubLogger) Debugf(_ context.Context, format string, args ...any) {
	l.log.Debugf(format, args...)
}
func (l stubLogger) Infof(_ context.Context, format string, args ...any) {
	l.log.Debugf(format, args...)
}
func (l stubLogger) Warnf(_ context.Context, format string, args ...any) {
	l.log.Debugf(format, args...)
}
func (l stubLogger) Errorf(_ context.Context, format string, args ...any) {
	l.log.Debugf(format, args...)
}
