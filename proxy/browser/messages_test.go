package browser_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

const messagesHead = `// Types of messages.js: the texts of the elements. Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

/** The texts of one language. A number n reads as the language writes it, and n.value is the number. */
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
				parameters = append(parameters, name+": any")
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
