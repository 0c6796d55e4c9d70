// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// UpdateDocument writes the report's blocks into a Markdown document, and each section's plot as FOLDER/bench-NAME.svg,
// where FOLDER is beside the document and named images. A block stands between the lines
//
//	<!-- bench:begin NAME --> and <!-- bench:end NAME -->
//
// for the name of a section, or "machine", which is that of the last run of all sections. Blocks of sections that did not run stay as
// they are; a section without a block is an error, and nothing is written then.
func (r Report) UpdateDocument(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	text := string(data)
	if strings.Count(text, beginBlock) == len(r.Sections)+1 { // all that there are, and the machine's
		if text, err = replaceBlock(text, "machine", r.machineBlock()); err != nil {
			return err
		}
	}
	images := filepath.Join(filepath.Dir(path), "images")
	for _, s := range r.Sections {
		block := s.markdown()
		if !s.empty() {
			block += fmt.Sprintf("\n![%s](images/%s)\n", s.Title, plotName(s))
		}
		if text, err = replaceBlock(text, s.Name, block); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(images, 0o755); err != nil {
		return fmt.Errorf("make the folder of plots: %w", err)
	}
	for _, s := range r.Sections {
		if s.empty() {
			continue
		}
		if err := s.plot(filepath.Join(images, plotName(s))); err != nil {
			return fmt.Errorf("draw section %s: %w", s.Name, err)
		}
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func plotName(s Result) string { return "bench-" + s.Name + ".svg" }

func (r Report) machineBlock() string {
	kind := "a full run"
	if r.Short {
		kind = "a short run, which is a look and no measurement"
	}
	block := fmt.Sprintf("%s. %s, %s.\n", r.Machine, r.Started.Format("2006-01-02"), kind)
	if r.Machine.Load > float64(r.Machine.Cores)/2 {
		block += "\nThe machine was busy with other work, so that these figures are provisional: the ratios of medians and the counts hold roughly,\n" +
			"the times are too long, and p99 and max tell of the other work.\n"
	}
	return block
}

const beginBlock = "<!-- bench:begin "

// replaceBlock puts content between the lines that name the block.
func replaceBlock(text, name, content string) (string, error) {
	begin, end := beginBlock+name+" -->\n", "<!-- bench:end "+name+" -->"
	before, rest, found := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", fmt.Errorf("find block %s: %w", name, errors.New("the document has no "+strings.TrimSpace(begin)+" with its end"))
	}
	return before + begin + content + end + after, nil
}
