package reported

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// maxDepth is how many objects and arrays may be open at once. Client libraries that parse
// recursively give up at about the same depth.
const maxDepth = 1024

// A finding is what a JSON text has at the path.
type finding struct {
	kind   findingKind
	amount int64 // of a usable one
}

type findingKind uint8

const (
	nothing   findingKind = iota // no value, or null
	malformed                    // a value, but not a whole number, 0 or more
	usable
)

// texts reads JSON texts (RFC 8259) that stand one after the other, in pieces of any size, and
// notices what the last of them that has a value at the path has there. An array at the top is read
// as if its elements stood there one after the other. Of members with the same name the last one
// counts, as for most JSON parsers.
type texts struct {
	names []string // of the path

	state   state
	depth   int                   // open objects and arrays
	arrays  [maxDepth / 64]uint64 // for each of them a bit: it is an array
	top     int                   // the depth at which a text begins: 1 in an array at the top, else 0
	onPath  int                   // how many open objects the path leads through, from the top of the text
	literal string                // what must follow of true, false or null
	hex     int                   // how many hexadecimal digits of \uXXXX must follow

	inKey bool   // the string is the name of a member,
	keyed bool   // of an object on the path, and may be the next name of the path
	key   []byte // if keyed: the string so far, as it is written

	member  bool    // the value that comes is that of the path's next name
	target  bool    // the value is the one that the path leads to
	number  number  // the value, if it is a number
	current finding // in the text that is read
	latest  finding // in the last text that has ended and had one
}

type state uint8

const (
	beforeText state = iota
	beforeValue
	beforeFirstElement // or the end of the array
	beforeFirstKey     // or the end of the object
	beforeKey
	beforeColon
	afterValue
	inString
	afterBackslash
	inHex
	inLiteral
	// The parts of a number.
	afterMinus
	afterZero // the whole part is 0
	inWhole
	afterPoint
	inDecimals
	afterE
	afterExponentSign
	inExponent
	failed
)

// restart forgets what has been read, and begins a new sequence of texts.
func (t *texts) restart() {
	*t = texts{names: t.names, key: t.key[:0]}
}

// end returns what the texts have at the path. Not ok: they are not valid JSON, or not complete.
func (t *texts) end() (f finding, ok bool) {
	switch t.state {
	case beforeText:
		return t.latest, true
	case afterZero, inWhole, inDecimals, inExponent: // a number ends where the texts end
		return t.latest, t.depth == 0
	}
	return t.latest, false
}

// write reads on.
func (t *texts) write(p []byte) {
	for i := 0; i < len(p); i++ {
		switch b := p[i]; t.state {
		case inString:
			i += t.readString(p[i:]) - 1
		case failed:
			return
		case afterBackslash, inHex:
			t.readEscape(b)
		case inLiteral:
			t.readLiteral(b)
		case afterMinus, afterZero, inWhole, afterPoint, inDecimals, afterE, afterExponentSign, inExponent:
			if !t.readNumber(b) {
				i-- // b is what follows the number
			}
		default:
			if b != ' ' && b != '\n' && b != '\r' && b != '\t' {
				t.readStructure(b)
			}
		}
	}
}

// readStructure reads what is between strings, numbers and literals, and where they begin.
func (t *texts) readStructure(b byte) {
	inArray := t.depth > 0 && t.arrays[(t.depth-1)/64]&(1<<((t.depth-1)%64)) != 0
	switch {
	case b == '"' && (t.state == beforeFirstKey || t.state == beforeKey):
		t.inKey, t.keyed, t.key = true, t.depth == t.top+t.onPath, t.key[:0]
		t.state = inString
	case b == ':' && t.state == beforeColon:
		t.state = beforeValue
	case b == ',' && t.state == afterValue && inArray:
		t.state = beforeValue
	case b == ',' && t.state == afterValue:
		t.state = beforeKey
	case b == ']' && inArray && (t.state == afterValue || t.state == beforeFirstElement):
		t.close(false)
	case b == '}' && !inArray && (t.state == afterValue || t.state == beforeFirstKey):
		t.close(true)
	case t.state == beforeText || t.state == beforeValue || t.state == beforeFirstElement:
		t.begin(b)
	default:
		t.state = failed
	}
}

// begin reads the first byte of a value.
func (t *texts) begin(b byte) {
	member := t.member
	t.target = member && t.onPath == len(t.names)
	t.member = false
	if t.target {
		t.current = finding{kind: malformed} // unless it turns out to be null or a whole number
	}
	switch {
	case b == '{':
		if t.depth == t.top {
			t.onPath, t.current = 1, finding{}
		} else if member && !t.target {
			t.onPath++
		}
		t.open(false)
	case b == '[':
		if t.depth == 0 {
			t.top = 1
		}
		t.open(true)
	case b == '"':
		t.inKey, t.state = false, inString
	case b == 't':
		t.literal, t.state = "rue", inLiteral
	case b == 'f':
		t.literal, t.state = "alse", inLiteral
	case b == 'n':
		if t.target {
			t.current = finding{}
		}
		t.literal, t.state = "ull", inLiteral
	case b == '-' || '0' <= b && b <= '9':
		t.number = number{}
		t.beginNumber(b)
	default:
		t.state = failed
	}
}

func (t *texts) open(array bool) {
	if t.depth == maxDepth {
		t.state = failed
		return
	}
	bit := uint64(1) << (t.depth % 64)
	t.arrays[t.depth/64] &^= bit
	t.state = beforeFirstKey
	if array {
		t.arrays[t.depth/64] |= bit
		t.state = beforeFirstElement
	}
	t.depth++
}

func (t *texts) close(object bool) {
	if object && t.depth == t.top+t.onPath {
		t.onPath--
	}
	t.depth--
	if t.depth == t.top && t.current.kind != nothing {
		t.latest, t.current = t.current, finding{}
	}
	t.valueEnded()
}

func (t *texts) valueEnded() {
	t.state = afterValue
	if t.depth == 0 {
		t.state, t.top = beforeText, 0
	}
}

// readString reads a piece of a string, and returns how many bytes that is, at least 1.
func (t *texts) readString(p []byte) int {
	n := 0
	for n < len(p) && p[n] != '"' && p[n] != '\\' && p[n] >= ' ' {
		n++
	}
	t.keep(p[:n])
	if n == len(p) {
		return n
	}
	switch p[n] {
	case '\\':
		t.keep(p[n : n+1])
		t.state = afterBackslash
	case '"':
		t.endString()
	default:
		t.state = failed
	}
	return n + 1
}

// keep keeps a piece of the name of a member, if it can be that of the path. A byte of a name
// takes at most the six of \uXXXX.
func (t *texts) keep(piece []byte) {
	if !t.inKey || !t.keyed {
		return
	}
	if t.keyed = len(t.key)+len(piece) <= 6*len(t.names[t.onPath-1]); t.keyed {
		t.key = append(t.key, piece...)
	}
}

func (t *texts) endString() {
	if !t.inKey {
		t.valueEnded()
		return
	}
	t.state = beforeColon
	if t.keyed && isName(t.key, t.names[t.onPath-1]) {
		t.member, t.current = true, finding{} // an earlier member of this name does not count
	}
}

// isName reports whether a valid JSON string without its quotes stands for a name.
func isName(key []byte, name string) bool {
	if bytes.IndexByte(key, '\\') < 0 {
		return string(key) == name
	}
	var s string
	err := json.Unmarshal(slices.Concat([]byte(`"`), key, []byte(`"`)), &s)
	return err == nil && s == name
}

func (t *texts) readEscape(b byte) {
	t.keep([]byte{b})
	isHex := '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'f'
	switch {
	case t.state == inHex && isHex:
		if t.hex--; t.hex == 0 {
			t.state = inString
		}
	case t.state == afterBackslash && b == 'u':
		t.state, t.hex = inHex, 4
	case t.state == afterBackslash && strings.IndexByte(`"\/bfnrt`, b) >= 0:
		t.state = inString
	default:
		t.state = failed
	}
}

func (t *texts) readLiteral(b byte) {
	if b != t.literal[0] {
		t.state = failed
	} else if t.literal = t.literal[1:]; t.literal == "" {
		t.valueEnded()
	}
}

// beginNumber reads the first byte of a number, or the first after its minus.
func (t *texts) beginNumber(b byte) {
	switch {
	case b == '-' && t.state != afterMinus:
		t.number.negative = true
		t.state = afterMinus
	case b == '0':
		t.state = afterZero
	case '1' <= b && b <= '9':
		t.number.addDigit(b, false)
		t.state = inWhole
	default:
		t.state = failed
	}
}

// readNumber reads a byte of a number, and reports whether it belongs to it.
func (t *texts) readNumber(b byte) bool {
	isDigit := '0' <= b && b <= '9'
	switch s := t.state; {
	case s == afterMinus:
		t.beginNumber(b)
	case s == inWhole && isDigit:
		t.number.addDigit(b, false)
	case (s == afterPoint || s == inDecimals) && isDigit:
		t.number.addDigit(b, true)
		t.state = inDecimals
	case (s == afterE || s == afterExponentSign || s == inExponent) && isDigit:
		t.number.addExponentDigit(b)
		t.state = inExponent
	case s == afterE && (b == '+' || b == '-'):
		t.number.divides = b == '-'
		t.state = afterExponentSign
	case (s == afterZero || s == inWhole) && b == '.':
		t.state = afterPoint
	case (s == afterZero || s == inWhole || s == inDecimals) && b|0x20 == 'e':
		t.state = afterE
	case s == afterZero || s == inWhole || s == inDecimals || s == inExponent:
		t.endNumber()
		return false
	default:
		t.state = failed
	}
	return true
}

func (t *texts) endNumber() {
	if t.target {
		if amount, ok := t.number.amount(); ok {
			t.current = finding{usable, amount}
		}
	}
	t.valueEnded()
}
