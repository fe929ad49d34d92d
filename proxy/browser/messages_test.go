package browser_test

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const messagesHead = `// Types of messages.js: the texts of the elements. Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

import type { Per } from './client.js';

/** A number. In a text, such as "${n} left", it reads as the user's language writes it. */
export interface Count {
  /** For Intl.PluralRules. */
  readonly value: number;
  toString(): string;
}

/** The texts of one language. docs/texts.md says what they get. */
export interface Messages {
`

const messagesFoot = `}

export const messages: Record<'en' | 'de' | 'fr' | 'es' | 'ar', Messages>;
`

var (
	messageLine = regexp.MustCompile(`(?m)^  (\w+): (?:(['"])|(?:\(([^)]*)\)|(\w+)) =>)`)
	messageName = regexp.MustCompile(`(?m)^  (\w+):`)
)

// messages.d.ts has the texts of src/messages: which is a string, and which is a function of what.
func TestTypesHaveEveryMessage(t *testing.T) {
	source, err := os.ReadFile("src/messages/en.js")
	if err != nil {
		t.Fatal(err)
	}
	types := messagesHead
	lines := messageLine.FindAllStringSubmatch(string(source), -1)
	if names := messageName.FindAll(source, -1); len(lines) != len(names) || len(lines) < 50 {
		t.Fatalf("%d texts, %d of them can be read", len(names), len(lines))
	}
	for _, line := range lines {
		if line[2] != "" {
			types += fmt.Sprintf("  %s: string;\n", line[1])
			continue
		}
		var parameters []string
		for name := range strings.SplitSeq(line[3]+line[4], ",") {
			if name = strings.TrimSpace(name); name != "" {
				parameters = append(parameters, name+": "+cmp.Or(messageTypes[line[1]+" "+name], messageTypes[name], "string"))
			}
		}
		types += fmt.Sprintf("  %s: (%s) => string;\n", line[1], strings.Join(parameters, ", "))
	}
	types += messagesFoot
	if *update {
		if err := os.WriteFile("messages.d.ts", []byte(types), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile("messages.d.ts"); string(got) != types {
		t.Errorf("messages.d.ts is not what src/messages gives (%v): run go generate ./proxy/browser", err)
	}
}

// messageTypes are the types of what texts get, by its name, or by that of the text and its own. All else
// is a string.
var messageTypes = map[string]string{
	"n": "Count", "used": "Count", "limit": "Count", "min": "Count", "max": "Count", "cost": "Count", "left": "Count", "days": "Count",
	"requests n": "Count | undefined", "units n": "Count | undefined", "unit n": "Count | undefined", "chartPerDay n": "string",
	"per": "Per", "label per": "Per | undefined", "shared": "true | undefined",
	"endpoint": "string | undefined", "price endpoint": "string", "limitEmpty endpoint": "string | null | undefined",
}

var documentedText = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([^|]*?) ?\\| ")

// docs/texts.md lists every text, with what it gets.
func TestPageListsEveryMessage(t *testing.T) {
	types, err := os.ReadFile("messages.d.ts")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, m := range regexp.MustCompile(`(?m)^  (\w+): (?:\((.*)\) => )?string;$`).FindAllStringSubmatch(string(types), -1) {
		var names []string
		for parameter := range strings.SplitSeq(m[2], ", ") {
			name, _, _ := strings.Cut(parameter, ":")
			names = append(names, name)
		}
		want = append(want, m[1]+"("+strings.Join(names, ", ")+")")
	}
	page, err := os.ReadFile("../../docs/texts.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| text | values |")
	for _, m := range documentedText.FindAllStringSubmatch(table, -1) {
		got = append(got, m[1]+"("+m[2]+")")
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/texts.md has\n%v\nwant\n%v", got, want)
	}
}
