// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/neighpin/neighpin/internal/config"
)

// ttrpc knows only logrus's own logger: its lines must not stand as text in a
// log of JSON, and not in the way of a log without details.
func TestWhatLibrariesLogKeepsTheDaemonsFormat(t *testing.T) {
	libraries := logrus.StandardLogger()
	out, formatter, level := libraries.Out, libraries.Formatter, libraries.GetLevel()
	t.Cleanup(func() {
		libraries.SetOutput(out)
		libraries.SetFormatter(formatter)
		libraries.SetLevel(level)
	})
	conf := config.Default()
	conf.LogFormat = "json"

	var quiet strings.Builder
	newLogger(&quiet, conf)
	libraries.Error("a connection ended")
	if quiet.Len() > 0 {
		t.Errorf("at level %s: %s", conf.LogLevel, quiet.String())
	}

	var detailed strings.Builder
	conf.LogLevel = "debug"
	newLogger(&detailed, conf)
	libraries.Error("a connection ended")
	var entry map[string]any
	if err := json.Unmarshal([]byte(detailed.String()), &entry); err != nil || entry["msg"] != "a connection ended" {
		t.Errorf("at level debug: %v: %s", err, detailed.String())
	}
}
