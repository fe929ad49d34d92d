package jwtauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of objects and arrays, the outermost one included. Real tokens
// have 3 or 4 levels.
const maxDepth = 16

// Faults of a JSON text. Clients are not told which fault it is.
var (
	errSyntax    = errors.New("not JSON")
	errNotObject = errors.New("not an object")
	errTrailing  = errors.New("data after the object")
	errDuplicate = errors.New("a name is given twice")
	errTooDeep   = errors.New("nested too deeply")
	errUnicode   = errors.New("not valid Unicode")
	errTruncated = errors.New("ends too soon")
)

// decodeObject decodes a JSON text that two parsers cannot read differently: one object with
// nothing after it, no name twice in an object, valid Unicode. encoding/json would take the
// last of two equal names, and would replace bad Unicode with U+FFFD, so that two users
// become one. Numbers become json.Number; other values are as in json.Unmarshal.
func decodeObject(text []byte) (map[string]any, error) {
	if !validText(text) {
		return nil, errUnicode
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	v, err := decodeValue(dec, 0)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errNotObject
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errTrailing
	}
	return object, nil
}

// validText reports whether a JSON text is valid Unicode.
func validText(text []byte) bool { return utf8.Valid(text) && surrogatesPaired(text) }

// decodeValue reads the next value, which is inside depth others.
func decodeValue(dec *json.Decoder, depth int) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, decoderError(err)
	}
	delim, ok := token.(json.Delim)
	switch {
	case !ok:
		return token, nil
	case depth == maxDepth:
		return nil, errTooDeep
	case delim == '{':
		return decodeMembers(dec, depth+1)
	}
	return decodeElements(dec, depth+1) // Decoder matches brackets: it is a '['
}

func decodeMembers(dec *json.Decoder, depth int) (any, error) {
	object := make(map[string]any)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, decoderError(err)
		}
		name, ok := token.(string)
		if !ok {
			return nil, errSyntax
		}
		if _, ok := object[name]; ok {
			return nil, errDuplicate
		}
		if object[name], err = decodeValue(dec, depth); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token() // the closing bracket
	return object, decoderError(err)
}

func decodeElements(dec *json.Decoder, depth int) (any, error) {
	array := []any{}
	for dec.More() {
		v, err := decodeValue(dec, depth)
		if err != nil {
			return nil, err
		}
		array = append(array, v)
	}
	_, err := dec.Token() // the closing bracket
	return array, decoderError(err)
}

// decoderError replaces the errors of a Decoder, which quote the text.
func decoderError(err error) error {
	switch err {
	case nil:
		return nil
	case io.EOF, io.ErrUnexpectedEOF:
		return errTruncated
	}
	return errSyntax
}

// surrogatesPaired reports whether each \uD800 to \uDFFF in a JSON text is half of a pair.
// For a text that is not JSON either result is possible: the Decoder refuses it.
func surrogatesPaired(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return true
		}
		text = text[i:]
		r := leadingEscape(text)
		switch {
		case r < 0: // another escape, such as \\ or \n
			text = text[min(2, len(text)):]
		case !utf16.IsSurrogate(r):
			text = text[6:]
		case utf16.DecodeRune(r, leadingEscape(text[6:])) == utf8.RuneError:
			return false
		default:
			text = text[12:]
		}
	}
}

// leadingEscape returns the code unit of the \uXXXX that text begins with, or -1.
func leadingEscape(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}
