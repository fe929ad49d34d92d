package apikeys

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"metergate/quota"
)

// A file of keys is YAML, of which it uses a part that a line at a time can be read. A key is
// written in one of two ways:
//
//	- { id: ci-1, hash: sha256:0a1b..., user: u-17, plan: pro }   # a comment
//	- id: ci-2
//	  hash: sha256:2c3d...
//	  user: "somebody, with a comma"
//
// A value is plain text of letters, digits and a few other characters, or is in quotes. Whatever
// is read here means the same to a YAML parser; whatever else YAML has is a fault. So a user
// called true must be in quotes: a YAML parser would read a boolean.

// hyphenRule says how a key begins.
const hyphenRule = "the hyphen must be the first character of the line, with all names of the key on the same line, as in - { id: ci-1, hash: sha256:..., user: u-17 }"

// An item is a key that is being read.
type item struct {
	line   int // 0: there is none
	values [members]string
	given  [members]bool
	indent int // of the lines that belong to it; 0: it stands on one line
	bad    bool
}

// readLine reads a line, without its end.
func (r *reader) readLine(text string) {
	text = strings.TrimSuffix(text, "\r")
	content := strings.TrimLeft(text, " ")
	switch {
	case !isPrintable(text):
		r.report("has a tab, a control character or something else that is not text; indent with spaces")
		r.item.bad = true
	case content == "" || content[0] == '#':
	case strings.TrimRight(content, " ") == "-":
		r.skipItem("has a hyphen alone; " + hyphenRule)
	case content != text && strings.HasPrefix(content, "- "):
		r.skipItem("begins with spaces; " + hyphenRule)
	case content == text && strings.HasPrefix(text, "- "):
		r.endItem()
		content = strings.TrimLeft(text[1:], " ")
		r.item = item{line: r.line}
		if r.emptyList {
			r.report("comes after [], which says that there is no key; remove the []")
		}
		if content != "" && content[0] == '{' {
			r.readFlow(content[1:])
			if !r.item.bad { // otherwise lines that continue it are not reported as well
				r.endItem()
			}
			return
		}
		r.item.indent = len(text) - len(content)
		r.readMember(content)
	case r.item.line > 0 && len(text)-len(content) == r.item.indent:
		r.readMember(content)
	case strings.TrimRight(text, " ") == "---" && len(r.set.keys) == 0 && r.item.line == 0 && !r.emptyList:
	case strings.TrimRight(text, " ") == "[]" && len(r.set.keys) == 0 && r.item.line == 0:
		r.emptyList = true
	case IsKey(content):
		r.report("is a key itself, and the file has only hashes; whoever has read the file knows the key, so remove this line and make another key with: metergate key -user USER")
		r.item.bad = true
	case r.item.line > 0 && r.item.bad: // the fault has been reported
	default:
		r.report("must begin with a hyphen and a space, as in - { id: ci-1, hash: sha256:..., user: u-17 }, or continue the key above with the same indentation")
		r.item.bad = true
	}
}

// skipItem reports a key that cannot be read, and passes over the lines that belong to it.
func (r *reader) skipItem(fault string) {
	r.endItem()
	r.report("%s", fault)
	r.item = item{line: r.line, bad: true}
}

// isPrintable reports whether a text is UTF-8 of characters that people see, and spaces.
func isPrintable(text string) bool {
	for i, c := range text {
		if c < ' ' || c > '~' && (!unicode.IsPrint(c) || c == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError))) {
			return false
		}
	}
	return true
}

// endItem is called when an item is complete.
func (r *reader) endItem() {
	if r.item.line > 0 && !r.item.bad {
		r.addKey(&r.item)
	}
	r.item = item{}
}

// badItem reports a fault of the item.
func (r *reader) badItem(format string, args ...any) {
	if !r.item.bad {
		r.report(format, args...)
	}
	r.item.bad = true
}

// readMember reads "name: value" on a line of its own.
func (r *reader) readMember(text string) {
	rest := r.readPair(text, "")
	if !r.item.bad && strings.TrimSpace(rest) != "" && !strings.HasPrefix(strings.TrimLeft(rest, " "), "#") || strings.HasPrefix(rest, "#") {
		r.badItem("has something after a value; put a text with spaces in quotes")
	}
}

// readFlow reads the members of a mapping in braces, from behind the first brace.
func (r *reader) readFlow(text string) {
	text = strings.TrimLeft(text, " ")
	for !strings.HasPrefix(text, "}") {
		if isEndOfLine(text) {
			r.badItem("has no } at its end; %s", hyphenRule)
			return
		}
		text = strings.TrimLeft(r.readPair(text, ",}"), " ")
		switch {
		case r.item.bad:
			return
		case isEndOfLine(text): // reported above
		case strings.HasPrefix(text, ","):
			text = strings.TrimLeft(text[1:], " ")
		case !strings.HasPrefix(text, "}"):
			r.badItem("must have a comma between values and } at its end, on the same line; put a text with spaces in quotes")
			return
		}
	}
	if rest := text[1:]; strings.TrimSpace(rest) != "" && !strings.HasPrefix(strings.TrimLeft(rest, " "), "#") || strings.HasPrefix(rest, "#") {
		r.badItem("has something after the }")
	}
}

// isEndOfLine reports whether there is nothing more to read on a line.
func isEndOfLine(text string) bool { return text == "" || text[0] == '#' }

// readPair reads "name: value" and returns what follows. ends are the characters that end a plain
// value, besides a space.
func (r *reader) readPair(text, ends string) (rest string) {
	name, rest, found := strings.Cut(text, ": ")
	if bare := strings.TrimRight(text, " "); !found && strings.HasSuffix(bare, ":") {
		name, found = strings.TrimSuffix(bare, ":"), true
	}
	m := slices.Index(known, name)
	switch {
	case !found || strings.ContainsAny(name, ` ,{}"'#`):
		r.badItem("must have names and values, as in id: ci-1, with a space after the colon; the names are %s", strings.Join(known, ", "))
		return ""
	case m < 0:
		what := "an unknown name"
		if !strings.Contains(name, Prefix) {
			what = "the unknown name " + shown(name)
		}
		r.badItem("has %s; the names are %s", what, strings.Join(known, ", "))
		return ""
	case r.item.given[m]:
		r.badItem("%s: is given twice", name)
		return ""
	}
	value, rest, fault := readValue(strings.TrimLeft(rest, " "), ends, member(m) == expires)
	if fault != "" {
		r.badItem("%s: %s", name, fault)
		return ""
	}
	r.item.values[m], r.item.given[m] = value, true
	return rest
}

// readValue reads a value at the beginning of text and returns what follows. It may be a date or a
// time without quotes if isTime is true. fault says why it cannot be read.
func readValue(text, ends string, isTime bool) (value, rest, fault string) {
	const unclosed = "has a quote that is not closed on the same line"
	switch {
	case strings.HasPrefix(text, `'`):
		for i := 1; i < len(text); i++ {
			switch {
			case text[i] != '\'':
			case strings.HasPrefix(text[i:], "''"):
				i++
			default:
				return strings.ReplaceAll(text[1:i], "''", "'"), text[i+1:], ""
			}
		}
		return "", "", unclosed
	case strings.HasPrefix(text, `"`):
		var b strings.Builder
		for i := 1; i < len(text); i++ {
			switch c := text[i]; {
			case c == '"':
				return b.String(), text[i+1:], ""
			case c == '\\' && i+1 < len(text) && (text[i+1] == '"' || text[i+1] == '\\'):
				i++
				b.WriteByte(text[i])
			case c == '\\':
				return "", "", `has a \ that is not \" or \\; write it in single quotes`
			default:
				b.WriteByte(c)
			}
		}
		return "", "", unclosed
	}
	end := strings.IndexAny(text, " "+ends)
	if end < 0 {
		end = len(text)
	}
	value, rest = text[:end], text[end:]
	switch {
	case value == "":
		return "", "", "needs a value"
	case isTime && yamlTime.MatchString(value):
	case meansMore(value):
		return "", "", fmt.Sprintf("must be in quotes, as in \"%s\", because YAML does not read it as text without them", value)
	case !hasPlainCharacters(value):
		return "", "", "must be in quotes, because it has a character that may mean something else in YAML"
	}
	return value, rest, ""
}

// meaningful are the words that YAML 1.1 or 1.2 does not read as text, in any case.
var meaningful = []string{"~", "null", "true", "false", "yes", "no", "on", "off", "y", "n"}

// yamlNumber matches what YAML 1.1 or 1.2 reads as a number; yamlTime, as a date or a time.
var (
	yamlNumber = regexp.MustCompile(`^(?i)[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-f_]+|\.inf|\.nan|([0-9][0-9_]*(:[0-5]?[0-9])*(\.[0-9_]*)?|\.[0-9_]+)(e[-+]?[0-9]+)?)$`)
	yamlTime   = regexp.MustCompile(`^[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?([Tt].*)?$`)
)

// meansMore reports whether YAML reads a text without quotes as something whose own text may be
// another one. A whole number in its usual form is not: 17 is 17 to all.
func meansMore(text string) bool {
	if len(text) <= len("false") && slices.ContainsFunc(meaningful, func(word string) bool { return strings.EqualFold(text, word) }) {
		return true
	}
	if text == "" || (text[0] < '0' || text[0] > '9') && text[0] != '.' && text[0] != '+' {
		return false
	}
	return !isWholeNumber(text) && yamlNumber.MatchString(text) || yamlTime.MatchString(text)
}

// isWholeNumber reports whether a text is a number from 0 to what every parser holds exactly.
func isWholeNumber(text string) bool {
	return len(text) <= 15 && strings.Trim(text, "0123456789") == "" && (text == "0" || text[0] != '0')
}

// isPlain reports whether a text needs no quotes.
func isPlain(text string) bool { return hasPlainCharacters(text) && !meansMore(text) }

// hasPlainCharacters reports whether no character of a text needs quotes.
func hasPlainCharacters(text string) bool {
	for i, c := range text {
		if c < utf8.RuneSelf && isAlphanumeric(byte(c)) {
			continue
		}
		if !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("._/+$", c) && (i == 0 || !strings.ContainsRune(":@=~|-", c)) {
			return false
		}
	}
	return text != "" && !strings.HasSuffix(text, ":")
}

// FileLine returns the line of a key for the file, which Read reads again as the same. Errors: the
// key has something that no file can have; its plan may be any name. They begin with the name of
// what is wrong, as in "user: ".
func (k *Key) FileLine() (string, error) {
	for _, v := range []struct {
		name member
		text string
	}{{id, k.ID}, {user, k.User}, {plan, k.Plan}, {org, k.Org}} {
		switch {
		case len(v.text) > 256:
			return "", fmt.Errorf("%s: must have at most 256 bytes", known[v.name])
		case !utf8.ValidString(v.text):
			return "", fmt.Errorf("%s: must be UTF-8", known[v.name])
		case !isPrintable(v.text):
			return "", fmt.Errorf("%s: must not have line breaks or control characters, or others that cannot be seen", known[v.name])
		}
	}
	line := "- { id: " + quoted(k.ID) + ", hash: " + k.HashText() + ", user: " + quoted(k.User)
	if k.Plan != "" {
		line += ", plan: " + quoted(k.Plan)
	}
	if k.Org != "" {
		line += ", org: " + quoted(k.Org)
	}
	if !k.Expires.IsZero() {
		line += ", expires: " + k.ExpiryText()
	}
	line += " }"
	_, faults, err := Read(strings.NewReader(line), func(plan string) bool { return quota.IsName(plan) })
	if len(faults) > 0 {
		err = errors.New(faults[0].Message)
	}
	return line, err
}

// HashText returns the hash as the file has it.
func (k *Key) HashText() string { return hashScheme + hex.EncodeToString(k.Hash[:]) }

// ExpiryText returns when the key expires as the file has it; empty: never.
func (k *Key) ExpiryText() string {
	if k.Expires.IsZero() {
		return ""
	}
	text := k.Expires.UTC().Format(time.RFC3339Nano)
	return strings.TrimSuffix(text, "T00:00:00Z")
}

func quoted(text string) string {
	if isPlain(text) {
		return text
	}
	return fmt.Sprintf("'%s'", strings.ReplaceAll(text, "'", "''"))
}
