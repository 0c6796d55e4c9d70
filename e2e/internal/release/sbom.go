// SPDX-License-Identifier: Apache-2.0

package release

import (
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// BillOfMaterials lists in CycloneDX's form what is linked into a Go program: every module that the program itself names (`go
// version -m`) and Go's standard library. It says so of the program's bytes, whatever go.mod says.
func BillOfMaterials(program, version string, date time.Time) (*cdx.BOM, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("read the build information: %w", err)
	}
	sum, err := sumOf(program)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	var properties []cdx.Property
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
		properties = append(properties, cdx.Property{Name: "neighpin:go-build:" + s.Key, Value: s.Value})
	}
	self := cdx.Component{
		BOMRef: "pkg:golang/" + info.Main.Path + "@" + version + "?goarch=" + settings["GOARCH"] + "&goos=" + settings["GOOS"],
		Type:   cdx.ComponentTypeApplication, Name: info.Main.Path, Version: version,
		Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}},
		Licenses:   &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
		Properties: &properties,
	}
	self.PackageURL = self.BOMRef

	standard := strings.TrimPrefix(info.GoVersion, "go")
	components := []cdx.Component{{
		// The name by which scanners and Go's vulnerability database know it.
		BOMRef: "pkg:golang/stdlib@" + standard, PackageURL: "pkg:golang/stdlib@" + standard,
		Type: cdx.ComponentTypeLibrary, Name: "stdlib", Version: info.GoVersion, Scope: cdx.ScopeRequired,
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "BSD-3-Clause"}}},
	}}
	for _, dep := range info.Deps {
		component, err := componentOf(dep)
		if err != nil {
			return nil, err
		}
		components = append(components, component)
	}
	linked := make([]string, 0, len(components))
	for _, c := range components {
		linked = append(linked, c.BOMRef)
	}
	bom := cdx.NewBOM()
	// The number follows from the program: another one with the same bytes has the same list.
	bom.SerialNumber = "urn:uuid:" + uuid(sum)
	bom.Metadata = &cdx.Metadata{Timestamp: date.UTC().Format(time.RFC3339), Component: &self}
	bom.Components = &components
	// Which module needs which the program does not tell.
	bom.Dependencies = &[]cdx.Dependency{{Ref: self.BOMRef, Dependencies: &linked}}
	return bom, nil
}

// componentOf describes one linked module: that of a replacement, if it has one.
func componentOf(module *debug.Module) (cdx.Component, error) {
	if module.Replace != nil {
		module = module.Replace
	}
	purl := "pkg:golang/" + module.Path + "@" + module.Version
	component := cdx.Component{BOMRef: purl, PackageURL: purl, Type: cdx.ComponentTypeLibrary, Name: module.Path, Version: module.Version, Scope: cdx.ScopeRequired}
	if module.Sum == "" {
		return component, nil
	}
	// go.sum's "h1:" is a SHA-256 over the module's files, as golang.org/x/mod/sumdb/dirhash defines it, in base64.
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(module.Sum, "h1:"))
	if err != nil || !strings.HasPrefix(module.Sum, "h1:") {
		return component, fmt.Errorf("read the checksum of %s: %q is not one of go.sum's: %w", module.Path, module.Sum, err)
	}
	component.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
	component.Properties = &[]cdx.Property{{Name: "neighpin:go-sum", Value: module.Sum}}
	return component, nil
}

// uuid makes a UUID of version 8 (whose bits are the maker's own, RFC 9562) of the first digits of a checksum.
func uuid(hexadecimal string) string {
	h := hexadecimal
	return h[0:8] + "-" + h[8:12] + "-8" + h[13:16] + "-8" + h[17:20] + "-" + h[20:32]
}

func encode(to io.Writer, bom *cdx.BOM) error {
	// 1.6 is what the scanners of the day read; the library knows newer ones.
	return cdx.NewBOMEncoder(to, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6)
}
