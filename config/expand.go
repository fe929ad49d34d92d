package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

var (
	errUnterminated = errors.New("has a ${ without its }; write $$ for a literal $")
	errVariable     = errors.New("${...} must be ${NAME} or ${NAME:-default}, with a NAME of letters, digits and _; write $$ for a literal $")
	errNested       = errors.New("the default in ${NAME:-default} is plain text and cannot hold another variable")
)

// expand replaces the variables of a value, see the package comment. The content of a
// variable is not expanded again. expanded reports whether there were any variables. Errors
// show the names of variables and no other part of the value.
func expand(value string, lookup func(string) (string, bool)) (text string, expanded bool, err error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(value, "$")
		b.WriteString(before)
		if !found {
			return b.String(), expanded, nil
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			value = rest[1:]
		case strings.HasPrefix(rest, "{"):
			inner, after, closed := strings.Cut(rest[1:], "}")
			if !closed {
				return "", expanded, errUnterminated
			}
			v, err := lookUpVariable(inner, lookup)
			if err != nil {
				return "", expanded, err
			}
			b.WriteString(v)
			value, expanded = after, true
		default:
			b.WriteByte('$')
			value = rest
		}
	}
}

// lookUpVariable returns the value of the text between ${ and }.
func lookUpVariable(inner string, lookup func(string) (string, bool)) (string, error) {
	name, fallback, hasDefault := strings.Cut(inner, ":-")
	if !variableName.MatchString(name) {
		return "", errVariable
	}
	if strings.Contains(fallback, "${") {
		return "", errNested
	}
	v, set := lookup(name)
	switch {
	case hasDefault && v == "": // not set, or empty, as in a shell
		return fallback, nil
	case !set:
		return "", unsetError(name)
	}
	return v, nil
}

// An unsetError is the name of a variable that is not set and has no default.
type unsetError string

func (e unsetError) Error() string {
	return fmt.Sprintf("the environment variable %s is not set; set it, or write ${%s:-default}", string(e), string(e))
}

// forSecret returns the message for the value of a key that has a secret, which does not
// belong in the file.
func (e unsetError) forSecret(key, make string) string {
	return fmt.Sprintf("the environment variable %s is not set; set it, or use %s_file (%s makes a secret)", string(e), key, make)
}

// The commands that make a secret: any one, and one of a webhook.
const (
	makeSecret        = "openssl rand -hex 32"
	makeSigningSecret = "echo whsec_$(openssl rand -base64 32)"
)
