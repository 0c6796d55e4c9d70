// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// foreignFlags are flags that the documents name without the program they
// belong to, because the sentence around them does.
var foreignFlags = map[string]string{
	"--privileged": "docker run",
	"--runtime":    "podman",
	"--hooks-dir":  "podman",
	"--log":        "an OCI runtime",
	"--log-format": "an OCI runtime",
	"--root":       "an OCI runtime",

	"--force-conflicts": "helm upgrade",

	"--pause-external-networking": "gVisor's runsc",
	"--network":                   "gVisor's runsc",
}

// document is a Markdown file, taken apart as far as the rules need it.
type document struct {
	name  string   // relative to the root
	text  string   // all of it
	spans []string // inline code
	lines []string // of shell: in a block that says so, or after a prompt
}

func TestDocsNameOnlyCommandsAndFlagsThatExist(t *testing.T) {
	commands := readCLI(t, buildNeighpin(t))
	anywhere := slices.Concat(slices.Collect(maps.Values(commands))...)
	for _, doc := range documents(t) {
		for _, code := range slices.Concat(doc.spans, doc.lines) {
			for _, args := range invocations(code) {
				if fault := commands.check(args); fault != "" {
					t.Errorf("%s: %q: %s", doc.name, code, fault)
				}
			}
		}
		for _, span := range doc.spans {
			flag, _, _ := strings.Cut(strings.Fields(span + " ")[0], "=")
			if strings.HasPrefix(flag, "--") && len(flag) > 2 && !slices.Contains(anywhere, flag) && foreignFlags[flag] == "" {
				t.Errorf("%s: no command of neighpin has the flag %s", doc.name, flag)
			}
		}
	}
}

func TestDocsDescribeEveryConfigurationKey(t *testing.T) {
	binary := buildNeighpin(t)
	out, err := exec.Command(binary, "config").Output()
	if err != nil {
		t.Fatalf("neighpin config: %v", err)
	}
	effective := map[string]any{}
	if err := yaml.UnmarshalStrict(out, &effective); err != nil {
		t.Fatalf("decode what neighpin config prints: %v", err)
	}
	const page = "docs/configuration.md"
	i := slices.IndexFunc(documents(t), func(d document) bool { return d.name == page })
	if i < 0 {
		t.Fatalf("%s is missing", page)
	}
	doc := documents(t)[i]
	described := tableKeys(doc.text)
	for key := range effective {
		if !slices.Contains(described, key) {
			t.Errorf("%s has no row for the key %q", page, key)
		}
	}
	for _, key := range described {
		if _, ok := effective[key]; !ok {
			t.Errorf("%s describes the key %q, which neighpin config does not print", page, key)
		}
	}
	for _, sample := range blocks(doc.text, "yaml") {
		file := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(sample), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(binary, "config", "--config", file).CombinedOutput(); err != nil {
			t.Errorf("%s shows a configuration that neighpin refuses: %v\n%s\n%s", page, err, out, sample)
		}
	}
}

var (
	annotationName = regexp.MustCompile(`\bneighpin\.io/[a-zA-Z][a-zA-Z.-]*[a-zA-Z]|\bio\.neighpin\.[a-zA-Z][a-zA-Z.-]*[a-zA-Z]`)
	variableName   = regexp.MustCompile(`\bNEIGHPIN_[A-Z][A-Z_]*[A-Z]`)
	makeTarget     = regexp.MustCompile(`\bmake ((?:[a-z][a-z0-9-]* ?)+)`)
	link           = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
)

// An annotation or variable that a document names is one that the code reads:
// it stands there as a literal, or is made of a configuration key.
func TestDocsNameOnlyAnnotationsAndVariablesThatExist(t *testing.T) {
	known := literals(t)
	for _, flag := range readCLI(t, buildNeighpin(t))["plugin"] {
		known[variable(flag)] = true
	}
	for _, doc := range documents(t) {
		for _, name := range slices.Concat(annotationName.FindAllString(doc.text, -1), variableName.FindAllString(doc.text, -1)) {
			if !known[name] {
				t.Errorf("%s names %s, which no code reads", doc.name, name)
			}
		}
	}
}

func TestDocsNameOnlyMakeTargetsThatExist(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range documents(t) {
		for _, code := range slices.Concat(doc.spans, doc.lines) {
			for _, m := range makeTarget.FindAllStringSubmatch(code, -1) {
				for _, target := range strings.Fields(m[1]) {
					if !strings.Contains(string(makefile), "\n"+target+":") {
						t.Errorf("%s: %q: the Makefile has no target %s", doc.name, code, target)
					}
				}
			}
		}
	}
}

func TestDocsLinkToFilesThatExist(t *testing.T) {
	for _, doc := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(doc.text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root(t), path.Dir(doc.name), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", doc.name, m[1], err)
			}
		}
	}
}

// documents returns the Markdown files of the root and of docs.
func documents(t *testing.T) []document {
	t.Helper()
	var docs []document
	for _, name := range filesWith(t, ".md") {
		data, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, parseDocument(name, string(data)))
	}
	if len(docs) == 0 {
		t.Fatal("no documents")
	}
	return docs
}

var span = regexp.MustCompile("`([^`]+)`")

func parseDocument(name, text string) document {
	doc := document{name: name, text: text}
	inBlock, shell := false, false
	var prose strings.Builder
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "```"):
			inBlock = !inBlock
			shell = slices.Contains([]string{"sh", "bash", "shell", "console"}, strings.Trim(trimmed, "`"))
		case inBlock && (shell || strings.HasPrefix(trimmed, "$ ")):
			doc.lines = append(doc.lines, trimmed)
		case inBlock:
		default:
			prose.WriteString(line)
		}
	}
	for _, m := range span.FindAllStringSubmatch(prose.String(), -1) {
		doc.spans = append(doc.spans, strings.Join(strings.Fields(m[1]), " "))
	}
	return doc
}

// blocks returns the code blocks of a language.
func blocks(text, language string) []string {
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// invocations returns the arguments of each call of neighpin in a line of shell:
// what stands before it may only be a prompt, sudo, a variable, or a command
// that hands over after "--".
func invocations(line string) [][]string {
	var calls [][]string
	for _, part := range regexp.MustCompile(`\|\|?|&&|;|\$\(`).Split(line, -1) {
		part, _, _ = strings.Cut(part, " # ")
		words := strings.Fields(part)
		for i, word := range words {
			before := words[:i]
			prompt := !slices.ContainsFunc(before, func(w string) bool {
				return w != "$" && w != "#" && w != "sudo" && !strings.Contains(w, "=")
			})
			if path.Base(word) == "neighpin" && (prompt || before[i-1] == "--") {
				calls = append(calls, words[i+1:])
				break
			}
		}
	}
	return calls
}

// tableKeys returns the code in the first column of tables whose first heading
// is "key".
func tableKeys(text string) []string {
	var keys []string
	inTable := false
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 3 {
			inTable = false
			continue
		}
		first := strings.TrimSpace(cells[1])
		switch {
		case strings.EqualFold(first, "key"):
			inTable = true
		case inTable && strings.HasPrefix(first, "`"):
			keys = append(keys, strings.Trim(first, "`"))
		}
	}
	return keys
}

// literals returns the string literals of the product's and the test bed's code.
func literals(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, name := range goFiles(t) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(t), name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					found[s] = true
				}
			}
			return true
		})
	}
	return found
}
