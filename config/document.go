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

// parseYAML returns the mapping at the top of the one document in data, or nil
// after it has reported why there is none.
func parseYAML(src *source, data []byte) *yaml.Node {
	first, second, err := documents(data)
	if err != nil {
		line := faultyLine(data, err.Error())
		hint := ""
		if text := bytes.Split(data, []byte("\n"))[line-1]; unquoted.Match(text) {
			hint = `; within { } and [ ] a variable needs quotes, "${NAME}"`
		}
		src.fault("", line, "not valid YAML: %v%s", err, hint)
		return nil
	}
	if first == nil || isNull(first) {
		src.fault("", 1, "is empty; it needs at least auth, default_plan, plans, upstreams and routes")
		return nil
	}
	if second != nil {
		src.fault("", second.Line, "a second YAML document starts here; a configuration is one document")
	}
	if first.Kind != yaml.MappingNode {
		src.fault("", first.Line, "must be a mapping (key: value), got %s", kindOf(first))
		return nil
	}
	return first
}

// unquoted finds a ${...} that YAML reads as the beginning of a mapping.
var unquoted = regexp.MustCompile(`[{\[].*: *\$\{`)

// documents returns the value of the first document, nil if there is none, and
// the second document, nil if there is none. Its errors carry no line: those of
// the YAML package are that of the enclosing collection, or one off, or missing.
func documents(data []byte) (first, second *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil { // an input that the YAML package did not expect
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
		// The name may be a secret that begins with a *.
		return "an unquoted * refers to an anchor (&name), and there is no such anchor; quote text that begins with *"
	}
	return message
}

// faultyLine finds the line that makes data fail with this message: the shortest
// beginning of the file that fails so ends there. What is open at the end of a
// beginning fails too, so within brackets or quotes it may be the line that
// opens them.
func faultyLine(data []byte, message string) int {
	var ends []int
	for i, c := range data {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	return 1 + sort.Search(len(ends), func(i int) bool {
		_, _, err := documents(data[:ends[i]])
		return err != nil && err.Error() == message
	})
}

// target follows an alias.
func target(n *yaml.Node) *yaml.Node {
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
