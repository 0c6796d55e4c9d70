// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// The forms of output.
const (
	outputTable = "table"
	outputWide  = "wide"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

func outputFlag(cmd *cobra.Command, output *string) {
	outputsFlag(cmd, output, outputTable, outputJSON)
}

func outputsFlag(cmd *cobra.Command, output *string, forms ...string) {
	cmd.Flags().StringVarP(output, "output", "o", outputTable, orList(forms))
}

func checkOutput(output string) error { return oneOf(output, outputTable, outputJSON) }

func oneOf(output string, forms ...string) error {
	if !slices.Contains(forms, output) {
		return fmt.Errorf("output %q: want %s", output, orList(forms))
	}
	return nil
}

// orList is "a, b or c".
func orList(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// print writes a value as JSON, as YAML or as a table.
func (a *app) print(output string, value any, table func(io.Writer)) error {
	if output == outputJSON || output == outputYAML {
		data, err := encode(output, value)
		if err == nil {
			_, err = a.stdout.Write(data)
		}
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// quoteOdd quotes what would break a table or a terminal: names come from the
// cluster's users.
func quoteOdd(s string) string {
	quoted := fmt.Sprintf("%+q", s)
	if strings.Trim(quoted, `"`) == s {
		return s
	}
	return quoted
}

// encode returns a value as JSON or YAML that a terminal can show.
func encode(form string, value any) ([]byte, error) {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode output: %w", err)
	}
	if form != outputYAML {
		return append(calm(data), '\n'), nil
	}
	// Before, since YAML refuses DEL and what JSON escapes as two halves. After, since
	// it escapes control characters alone, and not those that turn the direction of
	// writing.
	if data, err = yaml.JSONToYAML(bytes.Map(shown, data)); err != nil {
		return nil, fmt.Errorf("encode output: %w", err)
	}
	return bytes.Map(shown, data), nil
}

// shown is a character, or what stands for one that cannot be printed.
func shown(r rune) rune {
	if r != '\n' && !unicode.IsPrint(r) {
		return utf8.RuneError
	}
	return r
}

// oneLine is a sentence of an error's as a terminal can show it: what it is about may
// have been named by somebody in a pod.
func oneLine(text string) string { return strings.Map(shown, strings.ReplaceAll(text, "\n", "; ")) }

// warn writes a warning, which is no error of the command's.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.stderr, "neighpin: warning: %s\n", oneLine(fmt.Sprintf(format, args...)))
}

// calm escapes in JSON what is no printable character and what encoding/json lets
// through, DEL among it: a terminal may take it for a command.
func calm(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r < '\x7f', unicode.IsPrint(r):
			out = append(out, data[:size]...)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				out = fmt.Appendf(out, `\u%04x`, unit)
			}
		}
		data = data[size:]
	}
	return out
}
