// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/neighpin/neighpin/internal/config"
)

func newLogger(out io.Writer, conf config.Config) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(out)
	configureLogger(log, conf)
	return log
}

func configureLogger(log *logrus.Logger, conf config.Config) {
	if level, err := logrus.ParseLevel(conf.LogLevel); err == nil {
		log.SetLevel(level)
	}
	if conf.LogFormat == "json" {
		log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	} else {
		log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, TimestampFormat: "2006-01-02T15:04:05.000Z07:00"})
	}
	adoptLibraries(log)
}

// adoptLibraries brings what ttrpc says, which it can only say to logrus's own
// logger, into the daemon's log and format: as a detail, since connections that
// end are told by whoever has them.
func adoptLibraries(log *logrus.Logger) {
	libraries := logrus.StandardLogger()
	libraries.SetOutput(log.Out)
	libraries.SetFormatter(log.Formatter)
	libraries.SetLevel(logrus.FatalLevel)
	if log.IsLevelEnabled(logrus.DebugLevel) {
		libraries.SetLevel(log.GetLevel())
	}
}
