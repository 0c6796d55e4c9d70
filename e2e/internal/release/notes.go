// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/neighpin/neighpin/e2e/manifests"
)

const (
	changelog = "CHANGELOG.md"
	// NotesFile is what GitHub's page of the release says.
	NotesFile = "NOTES.md"

	provenanceFile = "PROVENANCE.md"
)

// notes writes the version's section of the changelog: that of what is not released yet, unless the version is a release.
func (m *maker) notes(context.Context) error {
	text, err := os.ReadFile(filepath.Join(m.Checkout, changelog))
	if err != nil {
		return fmt.Errorf("read the changes: %w", err)
	}
	released, err := m.deploy.Version()
	if err != nil {
		return err
	}
	title := "Unreleased"
	if m.Version == released {
		title = manifests.ChartVersion(released)
	}
	changes, err := Changes(string(text), title)
	if err != nil {
		return fmt.Errorf("read the changes of %s: %w", m.Version, err)
	}
	return m.create(NotesFile, func(to io.Writer) error {
		_, err := io.WriteString(to, changes+"\n"+verifying)
		return err
	})
}

const verifying = `## Verifying

` + "`sha256sum --check SHA256SUMS`, `gh attestation verify FILE --repo neighpin/neighpin`; `PROVENANCE.md` says how to build the same bytes." + `
[docs/release.md](https://github.com/neighpin/neighpin/blob/main/docs/release.md#verifying-a-release) explains each.
`

// Changes is the section of a changelog (https://keepachangelog.com) with that title, without its heading.
func Changes(text, title string) (string, error) {
	_, rest, found := strings.Cut("\n"+text, "\n## ["+title+"]")
	if !found {
		return "", fmt.Errorf("%s has no section [%s]; give the section [Unreleased] that name and the date, and begin a new one", changelog, title)
	}
	_, body, _ := strings.Cut(rest, "\n")
	body, _, _ = strings.Cut(body, "\n## ")
	return strings.TrimSpace(body) + "\n", nil
}

// provenance writes what was built of what, and how to do it again.
func (m *maker) provenance(context.Context) error {
	if m.info == nil {
		return errors.New("write the provenance: no program was built")
	}
	page, err := template.New(provenanceFile).Parse(provenanceText)
	if err != nil {
		return fmt.Errorf("write the provenance: %w", err)
	}
	var settings []string
	for _, s := range m.info.Settings {
		// Those of one architecture are in its list of modules.
		if s.Key != "GOARCH" && s.Key != "GOAMD64" && s.Key != "GOARM64" {
			settings = append(settings, s.Key+"="+s.Value)
		}
	}
	return m.create(provenanceFile, func(to io.Writer) error {
		return page.Execute(to, map[string]any{
			"Version": m.Version, "Revision": m.Revision, "Go": m.info.GoVersion, "Epoch": m.Date.Unix(), "Date": m.Date.UTC().Format("2006-01-02 15:04:05 UTC"),
			"Repository": m.Repository, "Digest": m.digest, "Settings": settings, "Dirty": strings.HasSuffix(m.Version, "-dirty"),
		})
	})
}

const provenanceText = `# How neighpin {{.Version}} was made

| | |
|---|---|
| source | https://github.com/neighpin/neighpin |
| commit | {{.Revision}} |
| compiler | {{.Go}} |
| time in the files | {{.Date}} (SOURCE_DATE_EPOCH={{.Epoch}}), the commit's |
| image | {{.Repository}}@{{.Digest}} |
| settings | {{range $i, $s := .Settings}}{{if $i}}, {{end}}` + "`{{$s}}`" + `{{end}} |
{{if .Dirty}}
**The sources had changes that are in no commit**: nobody else can build this.
{{end}}
The program is linked by internal/cmd/rootfs of that commit, of the modules in its go.sum; the files *.cdx.json list what is in it. Helm,
which packs the chart, is built from e2e/parts/helm there.

## The same again

Go, git and make are needed, and no engine. In an empty folder:

` + "```" + `sh
git clone https://github.com/neighpin/neighpin
cd neighpin
git checkout {{.Revision}}
GOTOOLCHAIN={{.Go}} make release VERSION={{.Version}} SOURCE_DATE_EPOCH={{.Epoch}}
cat bin/release/SHA256SUMS
` + "```" + `

Every line of SHA256SUMS is the same as here. The image's digest is that of bin/release/image.sha256.
`
