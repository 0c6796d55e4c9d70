// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/neighpin/neighpin/pkg/sandbox"
	"github.com/neighpin/neighpin/pkg/selection"
)

// Loader puts a configuration together: defaults, then the file, then the
// environment, then flags.
type Loader struct {
	// Path is the file's; empty for none.
	Path string
	// Given are the flags of the command line; those of other meaning do not count.
	Given *pflag.FlagSet
	// LookupEnv finds a variable of the environment.
	LookupEnv func(name string) (string, bool)
}

// Load returns the effective configuration. text, if any, stands in the file's
// place: it is what NRI has for a plugin that the runtime launched.
func (l Loader) Load(text string) (Config, error) {
	config := Default()
	config.PodAnnotations = notGiven
	source := "configuration from NRI"
	if text == "" && l.Path != "" {
		data, err := os.ReadFile(l.Path)
		if err != nil {
			return Config{}, fmt.Errorf("read configuration: %w", err)
		}
		source, text = "configuration "+l.Path, string(data)
	}
	if err := yaml.UnmarshalStrict([]byte(text), &config); err != nil {
		return Config{}, fmt.Errorf("parse %s: %w", source, inWordsOfTheFile(err))
	}
	if config.Learned == "false" {
		config.Learned = LearnedOff // "off" without quotes is YAML's word for false
	}
	if config.HostState == "false" {
		config.HostState = string(sandbox.HostStateOff)
	}
	var errs []error
	fromEnv := config.Flags()
	fromEnv.VisitAll(func(f *pflag.Flag) {
		if value, ok := l.LookupEnv(Env(f.Name)); ok {
			if err := f.Value.Set(value); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s: %w", Env(f.Name), err))
			}
		}
	})
	// A fresh set, so that a list replaces the environment's instead of growing it.
	fromFlags := config.Flags()
	l.Given.Visit(func(f *pflag.Flag) {
		if own := fromFlags.Lookup(f.Name); own != nil {
			value := f.Value.String()
			if list, ok := f.Value.(pflag.SliceValue); ok {
				value = strings.Join(list.GetSlice(), ",")
			}
			errs = append(errs, own.Value.Set(value))
		}
	})
	if config.PodAnnotations == notGiven {
		config.PodAnnotations = Default().PodAnnotations
		if config.Enforce {
			config.PodAnnotations = string(selection.OptIn) // tenants may not opt out
		}
	}
	errs = append(errs, config.Validate())
	return config, errors.Join(errs...)
}

// inWordsOfTheFile is an error of the file's reader without the reader's own
// detours: it takes YAML by way of JSON into Go's types, none of which the file has.
func inWordsOfTheFile(err error) error {
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		text := strings.TrimPrefix(err.Error(), "error unmarshaling JSON: while decoding JSON: ")
		return errors.New(strings.TrimPrefix(text, "json: "))
	}
	want := "text"
	switch {
	case wrong.Type == reflect.TypeFor[Duration]():
		want = "a duration such as 5m"
	case wrong.Type.Kind() == reflect.Slice:
		want = `a list such as ["a", "b"]`
	case wrong.Type.Kind() == reflect.Bool:
		want = "true or false"
	case wrong.Type.Kind() == reflect.Int:
		want = "a whole number"
	case wrong.Type.Kind() == reflect.Struct:
		want = "keys with values"
	}
	return fmt.Errorf("%s: %s, want %s", cmp.Or(wrong.Field, "the file"), wrong.Value, want)
}
