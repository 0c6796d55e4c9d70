// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The levels, in the words of runc's log. Callers such as containerd show the
// last line of level error when the runtime has exited with an error, so a line
// that stops nothing must not have it (go-runc's users: containerd
// cmd/containerd-shim-runc-v2/process/utils.go and gVisor
// pkg/shim/v1/proc/utils.go, getLastRuntimeError).
const (
	levelWarning = "warning"
	levelError   = "error"
)

// teller writes messages where the runtime would write its own.
type teller struct {
	log    string // a file; empty: stderr
	json   bool
	stderr io.Writer
}

func (c call) teller(stderr io.Writer) teller {
	return teller{log: c.log, json: strings.HasPrefix(c.logFormat, "json"), stderr: stderr}
}

// warn tells what does not stop the container.
func (t teller) warn(format string, args ...any) {
	message := "neighpin: " + fmt.Sprintf(format, args...)
	if !t.write(levelWarning, message) {
		t.show(message)
	}
}

// refuse tells what stops it: on standard error too, as runc does, since callers
// without a log (CRI-O) read it there.
func (t teller) refuse(err error) {
	message := "neighpin: " + err.Error()
	t.write(levelError, message)
	t.show(message)
}

// show writes a line for a terminal, which a link's name must not command.
func (t teller) show(message string) {
	fmt.Fprintln(t.stderr, strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, strings.ReplaceAll(message, "\n", "; ")))
}

// write reports false when there is no log.
func (t teller) write(level, message string) bool {
	if t.log == "" {
		return false
	}
	file, err := os.OpenFile(t.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return false
	}
	now := time.Now().Format(time.RFC3339Nano)
	line := fmt.Sprintf("time=%q level=%s msg=%s\n", now, level, strconv.Quote(message))
	if t.json {
		data, err := json.Marshal(struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
			Time  string `json:"time"`
		}{level, message, now})
		if err != nil {
			_ = file.Close()
			return false
		}
		line = string(data) + "\n"
	}
	_, err = file.WriteString(line)
	return file.Close() == nil && err == nil
}
