package counterfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// readDynamoDB reads DynamoDB's JSON: objects that follow each other, on lines of their own or
// not, each with an Item, as in an export to S3, or with Items, as a page of a scan has them.
func (r *reader) readDynamoDB(name string, text io.Reader) {
	lines := &lineCounter{Reader: text, line: 1}
	d := &dynamoReader{reader: r, name: name, lines: lines, json: json.NewDecoder(lines)}
	for {
		err := d.readObject()
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			r.Faults.Add(d.place(), "%s", d.explain(err))
			return // where the next object begins is not known
		}
	}
}

// A dynamoReader reads one file.
type dynamoReader struct {
	*reader
	name  string
	lines *lineCounter
	json  *json.Decoder
}

// place is where the reader is.
func (d *dynamoReader) place() Place { return Place{d.name, d.lines.lineAt(d.json.InputOffset())} }

// explain says what is wrong with a file that cannot be read on.
func (d *dynamoReader) explain(err error) string {
	switch syntax := (*json.SyntaxError)(nil); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return readable(err).Error()
	case errors.As(err, &syntax) && d.rows == 0:
		return fmt.Sprintf("is not JSON: %v; a CSV file needs -format csv", err)
	case errors.As(err, &syntax):
		return fmt.Sprintf("is not JSON: %v", err)
	}
	return err.Error()
}

// errShape is the error for JSON that is not DynamoDB's.
type errShape string

func (e errShape) Error() string { return string(e) }

const errNotObject = errShape(`must be an object like {"Item": {...}} or {"Items": [...]}`)

// readObject reads an object with an item, or a page of a scan. At the end of the file it returns
// io.EOF.
func (d *dynamoReader) readObject() error {
	if start, err := d.json.Token(); err != nil {
		return err
	} else if start != json.Delim('{') {
		return errNotObject
	}
	at, hasItems, isPage, goesOn := d.place(), false, false, Place{}
	for d.json.More() {
		key, err := d.json.Token()
		if err != nil {
			return inside(err)
		}
		switch key {
		case "Item":
			hasItems = true
			err = d.readItem()
		case "Items":
			hasItems, isPage = true, true
			err = d.readItems()
		case "NewImage", "OldImage", "Keys":
			return errShape("is an incremental export, which has only what has changed; make a full export")
		default:
			var value json.RawMessage
			err = d.json.Decode(&value)
			if (key == "LastEvaluatedKey" || key == "NextToken") && string(value) != "null" {
				goesOn = d.place()
			}
		}
		if err != nil {
			return inside(err)
		}
	}
	if _, err := d.json.Token(); err != nil {
		return inside(err)
	}
	switch {
	case !hasItems:
		d.Faults.Add(at, `there is neither "Item", as in an export to S3, nor "Items", as in the output of aws dynamodb scan`)
	case isPage:
		d.unended = goesOn
	}
	return nil
}

// inside is an error within an object, where the end of the file is too early.
func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readItems reads the list of a page.
func (d *dynamoReader) readItems() error {
	if start, err := d.json.Token(); err != nil {
		return err
	} else if start != json.Delim('[') {
		return errShape("Items must be a list")
	}
	for d.json.More() {
		if err := d.readItem(); err != nil {
			return err
		}
	}
	_, err := d.json.Token()
	return err
}

// readItem reads one item. What is wrong with its attributes is a fault; the next item is read all the
// same.
func (d *dynamoReader) readItem() error {
	var text json.RawMessage
	if err := d.json.Decode(&text); err != nil {
		return err
	}
	d.countRow()
	at := Place{d.name, d.lines.lineAt(d.json.InputOffset() - int64(len(text)))}
	var attributes map[string]json.RawMessage
	switch err := json.Unmarshal(text, &attributes); {
	case !utf8.Valid(text):
		d.Faults.Add(at, "is not UTF-8")
		return nil
	case err != nil || attributes == nil:
		d.Faults.Add(at, `an item must be an object of attributes like {"user_id": {"S": "u-17"}}`)
		return nil
	}
	row, skip, err := d.Mapping.row(attributes, d.filter)
	switch {
	case err != nil:
		d.Faults.Add(at, "%v", err)
	case skip != "":
		if d.Skipped++; d.Skipped == 1 {
			d.skipped, d.skippedOf = at, skip
		}
	default:
		d.add(at, row)
	}
	return nil
}

// row takes a row from the attributes of an item. If it is of another window than the filter's, skip is
// that window.
func (m *Mapping) row(attributes map[string]json.RawMessage, filter *windowFilter) (r row, skip string, err error) {
	if !m.window.isZero() {
		text, err := m.window.text(attributes, true)
		if err != nil {
			return r, "", err
		}
		switch has, err := filter.has(text); {
		case err != nil:
			return r, "", fmt.Errorf("%s %w", m.window.name, err)
		case !has:
			return r, text, nil
		}
	}
	for _, part := range []struct {
		source
		to     *string
		needed bool
	}{
		{m.user, &r.account.User, true}, {m.used, &r.used, true}, {m.endpoint, &r.endpoint, true},
		{m.org, &r.account.Org, m.user.isZero()}, {m.units, &r.units, false},
	} {
		if part.isZero() {
			continue
		}
		if *part.to, err = part.text(attributes, part.needed); err != nil {
			return r, "", err
		}
	}
	return r, "", nil
}

// typeNames has DynamoDB's types of attributes other than S and N.
var typeNames = map[string]string{"B": "binary", "BOOL": "true or false", "NULL": "null", "L": "a list", "M": "a map",
	"SS": "a set of strings", "NS": "a set of numbers", "BS": "a set of binaries"}

// text returns the value of a string or number. One that is not needed is empty if the item does not
// have it.
func (s source) text(attributes map[string]json.RawMessage, needed bool) (string, error) {
	if s.fixed {
		return s.name, nil
	}
	kind, value, err := s.find(attributes)
	switch {
	case err != nil:
		return "", err
	case kind == "" && needed:
		return "", fmt.Errorf("there is no attribute %s; the item has %s", s.name, names(attributes))
	case kind == "" || kind == "NULL" && !needed:
		return "", nil
	case kind == "S", kind == "N":
		var text *string
		if json.Unmarshal(value, &text) != nil || text == nil {
			return "", fmt.Errorf("%s is no attribute of DynamoDB; it must be like {%q: %q}", s.name, kind, map[string]string{"S": "u-17", "N": "42"}[kind])
		}
		if loneSurrogate(value) {
			return "", fmt.Errorf("%s has half of a UTF-16 pair, %.80s, which is no character", s.name, value)
		}
		return *text, nil
	case kind == "M":
		var contained map[string]json.RawMessage
		if json.Unmarshal(value, &contained); len(contained) == 0 {
			return "", fmt.Errorf("%s is an empty map (type M); it must be a string or a number", s.name)
		}
		return "", fmt.Errorf("%s is a map (type M); name what it contains, such as %s.%s", s.name, s.name, slices.Min(slices.Collect(maps.Keys(contained))))
	}
	if name := typeNames[kind]; name != "" {
		return "", fmt.Errorf("%s is %s (type %s); it must be a string or a number", s.name, name, kind)
	}
	return "", fmt.Errorf("%s has the type %.20q, which DynamoDB does not have", s.name, kind)
}

// loneSurrogate reports whether a JSON string escapes half of a UTF-16 pair. Decoding replaces it, so
// that different ids would become one.
func loneSurrogate(text []byte) bool {
	high := false // the escape before is the first half of a pair
	for i := 0; i < len(text); i++ {
		unit := int64(0)
		width := 1
		if text[i] == '\\' && i+1 < len(text) {
			width = 2
			if text[i+1] == 'u' && i+6 <= len(text) {
				unit, _ = strconv.ParseInt(string(text[i+2:i+6]), 16, 64)
				width = 6
			}
		}
		low := unit >= 0xdc00 && unit < 0xe000
		if high != low {
			return true
		}
		high = unit >= 0xd800 && unit < 0xdc00
		i += width - 1
	}
	return high
}

// find returns the type and the value of the attribute; an empty kind: the item does not have it.
// An attribute whose name has dots goes before a path into maps.
func (s source) find(attributes map[string]json.RawMessage) (kind string, value json.RawMessage, err error) {
	if text, ok := attributes[s.name]; ok {
		return typed(s.name, text)
	}
	path := strings.Split(s.name, ".")
	for i, name := range path {
		text, ok := attributes[name]
		if !ok {
			return "", nil, nil
		}
		parent := strings.Join(path[:i+1], ".")
		if kind, value, err = typed(parent, text); err != nil || i == len(path)-1 {
			return kind, value, err
		}
		attributes = nil
		if kind == "NULL" {
			return "", nil, nil
		}
		if kind != "M" || json.Unmarshal(value, &attributes) != nil {
			return "", nil, fmt.Errorf("%s is not a map (type M), so it has no %s", parent, path[i+1])
		}
	}
	return "", nil, nil
}

// typed returns the type and the value of an attribute.
func typed(name string, text json.RawMessage) (kind string, value json.RawMessage, err error) {
	var attribute map[string]json.RawMessage
	if err := json.Unmarshal(text, &attribute); err != nil || len(attribute) != 1 {
		return "", nil, fmt.Errorf(`%s is no attribute of DynamoDB; it must have a type, like {"S": "u-17"} or {"N": "42"}, got %.80s`, name, text)
	}
	for kind, value = range attribute {
	}
	return kind, value, nil
}

// names lists the names of attributes, if they are not many.
func names(attributes map[string]json.RawMessage) string {
	sorted := slices.Sorted(maps.Keys(attributes))
	if len(sorted) == 0 {
		return "none"
	}
	more := ""
	if len(sorted) > 10 {
		sorted, more = sorted[:10], " and others"
	}
	return strings.Join(sorted, ", ") + more
}

// A lineCounter counts the lines of what is read from it. The reader is ahead of the places that are
// asked for.
type lineCounter struct {
	io.Reader
	read     int64
	line     int     // that ends with the first of newlines
	newlines []int64 // the offsets of those that lineAt has not passed yet
}

func (l *lineCounter) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	for i, c := range p[:n] {
		if c == '\n' {
			l.newlines = append(l.newlines, l.read+int64(i))
		}
	}
	l.read += int64(n)
	return n, err
}

// lineAt returns the line at an offset, which must not be before that of the last call.
func (l *lineCounter) lineAt(offset int64) int {
	passed := 0
	for passed < len(l.newlines) && l.newlines[passed] < offset {
		passed++
	}
	l.line += passed
	l.newlines = slices.Delete(l.newlines, 0, passed)
	return l.line
}
