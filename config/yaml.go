package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strings"

	"gopkg.in/yaml.v3"
)

// parseYAML returns the mapping at the top of the one document in data. It returns nil after
// reporting why there is none.
func parseYAML(src *source, data []byte) *yaml.Node {
	first, second, err := readDocuments(data)
	if err != nil {
		line := faultyLine(data, err.Error())
		src.report("", line, "not valid YAML: %v%s", err, syntaxHint(bytes.Split(data, []byte("\n"))[line-1], err.Error()))
		return nil
	}
	if first == nil || isNull(first) {
		src.report("", 1, "is empty; it needs at least auth, default_plan, plans, upstreams and routes")
		return nil
	}
	if second != nil {
		src.report("", second.Line, "a second YAML document starts here; a configuration must be one document")
	}
	if first.Kind != yaml.MappingNode {
		src.report("", first.Line, "must be a mapping (key: value), got %s", kindOf(first))
		return nil
	}
	return first
}

// syntaxHint says what is probably wrong with a line, as the end of a message.
func syntaxHint(line []byte, message string) string {
	switch {
	case unquotedVariable.Match(line):
		return `; inside { } and [ ] a variable needs quotes, "${NAME}"`
	case tabIndent.Match(line):
		return "; indent with spaces, not with a tab"
	case strings.HasSuffix(message, "did not find expected key"), strings.HasSuffix(message, "did not find expected '-' indicator"),
		strings.Contains(message, "mapping values are not allowed"):
		return "; check the indentation of this line and of those above"
	}
	return ""
}

var tabIndent = regexp.MustCompile(`^ *\t`)

// unquotedVariable matches a line with a ${...} that YAML reads as the beginning of a mapping.
var unquotedVariable = regexp.MustCompile(`[{\[].*: *\$\{`)

// readDocuments returns the value of the first document and the second document, each nil if
// there is none. Its errors carry no line: the lines of the YAML package are those of the
// enclosing collection, or one off, or missing.
func readDocuments(data []byte) (first, second *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil { // the YAML package panics on some inputs
			err = errors.New("cannot be read")
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	docs := make([]yaml.Node, 2)
	for i := range docs {
		switch err := dec.Decode(&docs[i]); {
		case err == io.EOF && i == 0:
			return nil, nil, nil
		case err == io.EOF:
			return docs[0].Content[0], nil, nil
		case err != nil:
			return nil, nil, errors.New(cleanMessage(err.Error()))
		}
	}
	return docs[0].Content[0], &docs[1], nil
}

var yamlPrefix = regexp.MustCompile(`^(yaml: )?(line \d+: )?`)

func cleanMessage(message string) string {
	message = yamlPrefix.ReplaceAllString(message, "")
	if strings.HasPrefix(message, "unknown anchor") {
		// The name is not shown: it may be a secret that begins with *.
		return "an unquoted * refers to an anchor (&name), and there is no such anchor; quote a text that begins with *"
	}
	return message
}

// faultyLine finds the line that makes data fail with this message. It is the last line of
// the shortest beginning of the file that fails in this way. A bracket or quote that is open
// at the end of a beginning fails too, so the result may be the line that opens it.
func faultyLine(data []byte, message string) int {
	var ends []int
	for i, c := range data {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	return 1 + sort.Search(len(ends), func(i int) bool {
		_, _, err := readDocuments(data[:ends[i]])
		return err != nil && err.Error() == message
	})
}

// resolveAlias returns the node that an alias stands for, and any other node as it is.
func resolveAlias(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// kindOf names the kind of a value without showing the value.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return "a single value"
	}
	return fmt.Sprintf("kind %d", n.Kind)
}
