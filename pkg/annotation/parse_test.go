// SPDX-License-Identifier: Apache-2.0

package annotation_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/neighpin/neighpin/pkg/annotation"
)

const (
	goodEntry = `{"dst":"10.88.0.1","dev":"eth0","lladdr":"0a:58:0a:58:00:01","state":["PERMANENT"],"source":"peer"}`
	good      = `{"version":1,"cookie":4711,"capturedAt":"2026-11-22T00:18:00.5Z","neighbors":[` + goodEntry + `]}`
)

// accepted are texts that Parse and the schema accept.
var accepted = map[string]string{
	"as written by Marshal":  good,
	"white space":            "\n " + strings.ReplaceAll(good, ",", " ,\t") + "\n",
	"keys in another order":  `{"neighbors":[],"capturedAt":"2026-11-22T00:18:00Z","cookie":1,"version":1}`,
	"escapes in a key":       replace(`"dst"`, `"\u0064st"`),
	"largest cookie":         replace(`4711`, `18446744073709551615`),
	"link-local gateway":     replace(`10.88.0.1`, `fe80::1`),
	"almost IPv4-mapped":     replace(`10.88.0.1`, `::ffff:1`),
	"dst below ::/96":        replace(`10.88.0.1`, `::102:304`),
	"neighbors in any order": replace(goodEntry, strings.Replace(goodEntry, "eth0", "eth1", 1)+","+goodEntry),
	"escapes in a value":     replace(`"10.88.0.1"`, `"10\u002e88.0.1"`),
	"class E gateway":        replace(`10.88.0.1`, `240.0.0.1`),
	"odd link name":          replace(`"eth0"`, `"a<b>&'\\\"%\u0041"`),
	"two links, one dst":     replace(goodEntry, goodEntry+","+strings.Replace(goodEntry, "eth0", "eth1", 1)),
	"source not yet made":    replace(`"peer"`, `"learned"`),
}

type refusal struct{ text, field, says string }

// refused are texts that Parse and the schema both refuse.
var refused = map[string]refusal{
	"nothing":                    {``, "", "want one JSON object"},
	"no JSON":                    {`{"version":1,`, "", "at byte 13"},
	"no JSON, no ASCII":          {"\u0342", "", `\u00cd`},
	"null":                       {`null`, "", "got null"},
	"an array":                   {`[1]`, "", "got an array"},
	"a byte order mark":          {"\ufeff" + good, "", "want one JSON object"},
	"trailing data":              {good + `{}`, "", "after top-level value"},
	"version missing":            {replace(`"version":1,`, ``), "", `"version" is missing`},
	"version 2":                  {replace(`"version":1`, `"version":2`), "version", "unknown version: got 2, known here: 1"},
	"version 2 with new keys":    {replace(`"version":1`, `"version":2,"vlan":7`), "version", "known here: 1"},
	"version as text":            {replace(`"version":1`, `"version":"1"`), "version", `got "1"`},
	"version of 1000 digits":     {replace(`"version":1`, `"version":1`+strings.Repeat("0", 1000)), "version", "known here: 1"},
	"unknown key":                {replace(`"version"`, `"x":{},"version"`), "", `unknown key "x", known: version`},
	"key in upper case":          {replace(`"cookie"`, `"Cookie"`), "", `unknown key "Cookie"`},
	"unknown key in an entry":    {replace(`"dst"`, `"vlan":7,"dst"`), "neighbors[0]", `unknown key "vlan"`},
	"key missing in an entry":    {replace(`,"source":"peer"`, ``), "neighbors[0]", `"source" is missing`},
	"cookie missing":             {replace(`"cookie":4711,`, ``), "", `"cookie" is missing`},
	"cookie zero":                {replace(`4711`, `0`), "cookie", "cookie 0"},
	"cookie negative":            {replace(`4711`, `-1`), "cookie", `got "-1"`},
	"cookie beyond 64 bits":      {replace(`4711`, `18446744073709551616`), "cookie", "want an integer"},
	"cookie with a fraction":     {replace(`4711`, `1.5`), "cookie", "want an integer"},
	"cookie as text":             {replace(`4711`, `"4711"`), "cookie", "want an integer"},
	"time without a zone":        {replace(`00.5Z`, `00.5`), "capturedAt", "UTC"},
	"time in another zone":       {replace(`00.5Z`, `00.5+01:00`), "capturedAt", "UTC"},
	"time with trailing zeros":   {replace(`00.5Z`, `00.50Z`), "capturedAt", "trailing zeros"},
	"time with a comma":          {replace(`00.5Z`, `00,5Z`), "capturedAt", "got"},
	"time as a number":           {replace(`"2026-11-22T00:18:00.5Z"`, `1795306680`), "capturedAt", "got"},
	"a leap second":              {replace(`00:18:00.5Z`, `23:59:60Z`), "capturedAt", "got"},
	"time before the first year": {replace(`2026-11-22T00:18:00.5Z`, `0000-01-01T00:00:00Z`), "capturedAt", "year 0"},
	"the first moment of year 1": {replace(`2026-11-22T00:18:00.5Z`, `0001-01-01T00:00:00Z`), "capturedAt", "not set"},
	"no such day":                {replace(`11-22`, `02-30`), "capturedAt", "got"},
	"neighbors null":             {replace(`[`+goodEntry+`]`, `null`), "neighbors", "got null"},
	"neighbor null":              {replace(goodEntry, `null`), "neighbors[0]", "got null"},
	"second neighbor an array":   {replace(goodEntry, goodEntry+`,[]`), "neighbors[1]", "got an array"},
	"dst empty":                  {replace(`10.88.0.1`, ``), "neighbors[0].dst", "want an IP address"},
	"dst a name":                 {replace(`10.88.0.1`, `gateway`), "neighbors[0].dst", "want an IP address"},
	"dst a prefix":               {replace(`10.88.0.1`, `10.88.0.1/24`), "neighbors[0].dst", "want an IP address"},
	"dst a number":               {replace(`"10.88.0.1"`, `10`), "neighbors[0].dst", "want a string"},
	"dst with octal zeros":       {replace(`10.88.0.1`, `10.88.0.01`), "neighbors[0].dst", "want an IP address"},
	"dst with a zone":            {replace(`10.88.0.1`, `fe80::1%eth0`), "neighbors[0].dst", "zone"},
	"dst in upper case":          {replace(`10.88.0.1`, `FE80::1`), "neighbors[0].dst", `canonical form "fe80::1"`},
	"dst IPv4-mapped":            {replace(`10.88.0.1`, `::ffff:10.0.0.1`), "neighbors[0].dst", "IPv4-mapped"},
	"dst IPv4-mapped, in hex":    {replace(`10.88.0.1`, `::ffff:a00:1`), "neighbors[0].dst", "canonical form"},
	"dst unspecified":            {replace(`10.88.0.1`, `0.0.0.0`), "neighbors[0].dst", "unicast"},
	"dst unspecified, IPv6":      {replace(`10.88.0.1`, `::`), "neighbors[0].dst", "unicast"},
	"dst broadcast":              {replace(`10.88.0.1`, `255.255.255.255`), "neighbors[0].dst", "unicast"},
	"dst multicast":              {replace(`10.88.0.1`, `224.0.0.1`), "neighbors[0].dst", "unicast"},
	"dst multicast, IPv6":        {replace(`10.88.0.1`, `ff02::1`), "neighbors[0].dst", "unicast"},
	"dst loopback":               {replace(`10.88.0.1`, `127.0.0.1`), "neighbors[0].dst", "unicast"},
	"dst loopback, IPv6":         {replace(`10.88.0.1`, `::1`), "neighbors[0].dst", "unicast"},
	"dev empty":                  {replace(`"eth0"`, `""`), "neighbors[0].dev", "1 to 15 bytes"},
	"dev of 16 bytes":            {replace(`"eth0"`, `"abcdefghijklmnop"`), "neighbors[0].dev", "1 to 15 bytes"},
	"dev a path":                 {replace(`"eth0"`, `"../eth0"`), "neighbors[0].dev", "'/'"},
	"dev ..":                     {replace(`"eth0"`, `".."`), "neighbors[0].dev", "no interface name"},
	"dev with a space":           {replace(`"eth0"`, `"eth 0"`), "neighbors[0].dev", "space"},
	"dev with a newline":         {replace(`"eth0"`, `"eth0\n"`), "neighbors[0].dev", `"eth0\n"`},
	"dev with a zero byte":       {replace(`"eth0"`, `"eth0\u0000"`), "neighbors[0].dev", `\x00`},
	"dev half a surrogate":       {replace(`"eth0"`, `"\ud800"`), "neighbors[0].dev", "printable ASCII"},
	"dev a number":               {replace(`"eth0"`, `0`), "neighbors[0].dev", "want a string"},
	"lladdr empty":               {replace(`0a:58:0a:58:00:01`, ``), "neighbors[0].lladdr", "six bytes"},
	"lladdr of 8 bytes":          {replace(`0a:58:0a:58:00:01`, `0a:58:0a:58:00:01:02:03`), "neighbors[0].lladdr", "six bytes"},
	"lladdr with dashes":         {replace(`0a:58:0a:58:00:01`, `0a-58-0a-58-00-01`), "neighbors[0].lladdr", "six bytes"},
	"lladdr colons elsewhere":    {replace(`0a:58:0a:58:00:01`, `:0a58:0a58:00:01:`), "neighbors[0].lladdr", "six bytes"},
	"lladdr of 7 bytes, 17 ch.":  {replace(`0a:58:0a:58:00:01`, `0a580a58:00:01:02`), "neighbors[0].lladdr", "six bytes"},
	"lladdr a number":            {replace(`"0a:58:0a:58:00:01"`, `7`), "neighbors[0].lladdr", "want a string"},
	"lladdr in upper case":       {replace(`0a:58:0a:58:00:01`, `0A:58:0A:58:00:01`), "neighbors[0].lladdr", "lower case"},
	"lladdr zero":                {replace(`0a:58:0a:58:00:01`, `00:00:00:00:00:00`), "neighbors[0].lladdr", "not zero"},
	"lladdr broadcast":           {replace(`0a:58:0a:58:00:01`, `ff:ff:ff:ff:ff:ff`), "neighbors[0].lladdr", "group address"},
	"lladdr multicast":           {replace(`0a:58:0a:58:00:01`, `01:00:5e:00:00:01`), "neighbors[0].lladdr", "group address"},
	"state reachable":            {replace(`PERMANENT`, `REACHABLE`), "neighbors[0].state", `["PERMANENT"]`},
	"state in lower case":        {replace(`PERMANENT`, `permanent`), "neighbors[0].state", `["PERMANENT"]`},
	"state empty":                {replace(`["PERMANENT"]`, `[]`), "neighbors[0].state", `["PERMANENT"]`},
	"state twice":                {replace(`["PERMANENT"]`, `["PERMANENT","PERMANENT"]`), "neighbors[0].state", `["PERMANENT"]`},
	"state not a list":           {replace(`["PERMANENT"]`, `"PERMANENT"`), "neighbors[0].state", `["PERMANENT"]`},
	"state a list of objects":    {replace(`["PERMANENT"]`, `[{}]`), "neighbors[0].state[0]", "nesting"},
	"source unknown":             {replace(`"peer"`, `"rumour"`), "neighbors[0].source", "want one of"},
	"source null":                {replace(`"peer"`, `null`), "neighbors[0].source", "want a string"},
	"one entry too many":         {replace(goodEntry, manyEntries(annotation.MaxNeighbors+1)), "neighbors", "at most 256"},
	"nested too deep":            {replace(`["PERMANENT"]`, `[["PERMANENT"]]`), "neighbors[0].state[0]", "nesting"},
	"nested beyond any parser":   {strings.Repeat("[", annotation.MaxBytes), "", "want one JSON object"},
	"unknown key, nested deep":   {replace(`"version"`, `"x":`+strings.Repeat("[", 99)+strings.Repeat("]", 99)+`,"version"`), `"x"[0][0][0]`, "nesting"},
	"hostile key, never echoed":  {replace(`"version"`, `"`+strings.Repeat("\u202e", 10000)+`":1,"version"`), "", `\u202e`},
}

// beyondSchema are texts that Parse refuses and a JSON Schema cannot express or
// see. docs/annotation.md lists these rules for readers in other languages.
var beyondSchema = map[string]refusal{
	"key twice":                 {replace(`"cookie":4711`, `"cookie":4711,"cookie":4712`), "", `"cookie" stands there twice`},
	"key twice, once escaped":   {replace(`"cookie":4711`, `"cookie":4711,"\u0063ookie":4711`), "", `"cookie" stands there twice`},
	"key twice in an entry":     {replace(`"dev":"eth0"`, `"dev":"eth0","dev":"eth0"`), "neighbors[0]", `"dev" stands there twice`},
	"version 1.0":               {replace(`"version":1`, `"version":1.0`), "version", "want the integer 1"},
	"cookie with an exponent":   {replace(`4711`, `4711e0`), "cookie", "without fraction or exponent"},
	"dst not compressed":        {replace(`10.88.0.1`, `fe80:0:0:0:0:0:0:1`), "neighbors[0].dst", `canonical form "fe80::1"`},
	"dst below ::/96, dotted":   {replace(`10.88.0.1`, `::1.2.3.4`), "neighbors[0].dst", `canonical form "::102:304"`},
	"dst with IPv4 in its tail": {replace(`10.88.0.1`, `64:ff9b::10.0.0.1`), "neighbors[0].dst", "canonical form"},
	"one dst on one dev twice":  {replace(goodEntry, goodEntry+","+strings.Replace(goodEntry, "peer", "port", 1)), "neighbors[1]", "as neighbors[0]"},
	"one byte too many":         {good + strings.Repeat(" ", annotation.MaxBytes+1-len(good)), "", "too large: 65537 bytes, at most 65536"},
}

func TestParseAccepts(t *testing.T) {
	for name, text := range accepted {
		t.Run(name, func(t *testing.T) {
			if _, err := annotation.Parse(text); err != nil {
				t.Errorf("Parse(%s): %v", text, err)
			}
		})
	}
}

func TestParseRefusesAndNamesTheField(t *testing.T) {
	for _, group := range []map[string]refusal{refused, beyondSchema} {
		for name, c := range group {
			t.Run(name, func(t *testing.T) {
				_, err := annotation.Parse(c.text)
				var e *annotation.Error
				if !errors.As(err, &e) {
					t.Fatalf("Parse = %v, want an *Error", err)
				}
				if e.Op != "parse" || e.Field != c.field {
					t.Errorf("error names %s of %q, want parse of %q", e.Op, e.Field, c.field)
				}
				if !strings.Contains(e.Err.Error(), c.says) {
					t.Errorf("error says %q, want %q in it", e.Err, c.says)
				}
				checkErrorText(t, err)
			})
		}
	}
}

func TestParseRefusesBytesThatAreNoUTF8(t *testing.T) {
	_, err := annotation.Parse(strings.Replace(good, "eth0", "eth\xff", 1))
	if err == nil || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("Parse = %v, want a refusal that says UTF-8", err)
	}
}

func TestParseTellsAnotherVersionFromAFault(t *testing.T) {
	_, err := annotation.Parse(refused["version 2"].text)
	if !errors.Is(err, annotation.ErrVersion) {
		t.Errorf("version 2: %v, want ErrVersion", err)
	}
	_, err = annotation.Parse(refused["one entry too many"].text)
	if errors.Is(err, annotation.ErrVersion) {
		t.Errorf("too many entries: %v, want no ErrVersion", err)
	}
	_, err = annotation.Parse(refused["dst a name"].text)
	if errors.Is(err, annotation.ErrVersion) {
		t.Errorf("wrong dst: %v, want no ErrVersion", err)
	}
}

func TestParseRefusesTenMegabytesWithoutReadingThem(t *testing.T) {
	huge := `{"version":1,"x":"` + strings.Repeat("a", 10<<20) + `"}`
	var err error
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			_, err = annotation.Parse(huge)
		}
	}).AllocedBytesPerOp()
	if err == nil || !strings.Contains(err.Error(), "too large") {
		t.Fatalf("Parse = %v, want a refusal because of the size", err)
	}
	if allocated > 4<<10 {
		t.Errorf("Parse allocated %d bytes to refuse 10 MB, so it has looked into them", allocated)
	}
}

// checkErrorText asserts what Error promises: short, printable, one line.
func checkErrorText(t *testing.T, err error) {
	t.Helper()
	const limit = 512
	text := err.Error()
	if len(text) > limit {
		t.Errorf("the error has %d bytes, want at most %d: %.100s...", len(text), limit, text)
	}
	for _, r := range text {
		if r < ' ' || r > '~' {
			t.Fatalf("the error holds %U: %q", r, text)
		}
	}
}

// replace returns the good text with one piece exchanged.
func replace(old, new string) string {
	if strings.Count(good, old) != 1 {
		panic(fmt.Sprintf("%q stands %d times in the good text", old, strings.Count(good, old)))
	}
	return strings.Replace(good, old, new, 1)
}

func manyEntries(n int) string {
	entries := make([]string, n)
	for i := range entries {
		entries[i] = strings.Replace(goodEntry, "10.88.0.1", fmt.Sprintf("10.88.%d.%d", i/256+1, i%256), 1)
	}
	return strings.Join(entries, ",")
}
