package apikeys

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"metergate/quota"
)

// A Fault is what is wrong with a line of the file. Its message shows no key and no hash.
type Fault struct {
	Line    int
	Message string
}

// maxFaults bounds the faults that are reported, for a file of another kind.
const maxFaults = 20

// maxLineBytes bounds a line. The longest good one has about 2 KiB.
const maxLineBytes = 16 << 10

// Read reads a file of keys. hasPlan says which plans there are. If there are faults, by line, the
// Set is nil. The error is that of the reader.
//
// The file is a YAML list of mappings, written in the ways that yaml.go describes. It is read
// line by line, because a YAML parser needs a gigabyte and seconds for 100,000 keys.
func Read(file io.Reader, hasPlan func(name string) bool) (*Set, []Fault, error) {
	r := reader{hasPlan: hasPlan, ids: map[string]int{}, shared: map[string]string{}, set: &Set{byHash: map[[sha256.Size]byte]int32{}}}
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, maxLineBytes), maxLineBytes)
	for lines.Scan() && len(r.faults) < maxFaults {
		r.line++
		text := lines.Text()
		if r.line == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		r.readLine(text)
	}
	r.endItem()
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		r.line++
		r.report("has more than %d KiB; write one key on a line", maxLineBytes>>10)
	case err != nil:
		return nil, nil, err
	case len(r.faults) == 0 && len(r.set.keys) == 0 && !r.emptyList:
		r.line = 1
		r.report("has no key; write [] if there is to be none")
	}
	if len(r.faults) > 0 {
		slices.SortStableFunc(r.faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
		return nil, r.faults, nil
	}
	r.set.keys = slices.Clip(r.set.keys)
	return r.set, nil, nil
}

// A reader reads a file of keys.
type reader struct {
	hasPlan func(string) bool
	set     *Set
	line    int
	faults  []Fault
	ids     map[string]int    // to the line of the key
	shared  map[string]string // texts that many keys have: plans and organisations

	emptyList bool // there was a []
	item      item
}

func (r *reader) report(format string, args ...any) {
	r.faults = append(r.faults, Fault{r.line, fmt.Sprintf(format, args...)})
}

// addKey adds the key that an item describes, unless it has faults.
func (r *reader) addKey(it *item) {
	line := r.line
	defer func() { r.line = line }()
	r.line = it.line
	k := Key{Line: it.line, ID: it.values[id], User: it.values[user], Org: r.share(it.values[org]), Plan: r.share(it.values[plan])}
	faults := len(r.faults)
	for _, m := range [...]member{id, hash, user} {
		if !it.given[m] {
			r.report("needs %s; metergate key -user USER makes a key and prints its line", known[m])
		}
	}
	if len(r.faults) > faults {
		return
	}
	if !isID(k.ID) || IsKey(k.ID) {
		r.report("id: must have 1 to 64 letters, digits and any of . - _ and must not begin with %s", Prefix)
	} else if first, ok := r.ids[k.ID]; ok {
		r.report("id: %s is the id of the key on line %d as well; each key needs its own", k.ID, first)
	}
	if _, err := quota.CheckedAccount("", k.User); err != nil || IsKey(k.User) {
		r.report("user: must have 1 to 256 bytes of UTF-8 without control characters, and must not be a key")
	}
	if it.given[org] {
		if _, err := quota.CheckedAccount(k.Org, ""); err != nil || IsKey(k.Org) {
			r.report("org: must have 1 to 256 bytes of UTF-8 without control characters, and must not be a key")
		}
	}
	if it.given[plan] && !r.hasPlan(k.Plan) {
		r.report("plan: the configuration has no plan %s", shown(k.Plan))
	}
	if it.given[expires] {
		var err error
		if k.Expires, err = ParseExpiry(it.values[expires]); err != nil {
			r.report("expires: %v", err)
		}
	}
	r.checkHash(&k, it.values[hash])
	if len(r.faults) > faults {
		return
	}
	k.ID, k.User = strings.Clone(k.ID), strings.Clone(k.User) // of the line, which need not be kept
	r.ids[k.ID] = k.Line
	r.set.byHash[k.Hash] = int32(len(r.set.keys))
	r.set.keys = append(r.set.keys, k)
}

// A member is what the file says of a key under one name. Each key has the first three.
type member int

const (
	id member = iota
	hash
	user
	plan
	org
	expires
	members // how many there are
)

// known are the names of the members.
var known = []string{"id", "hash", "user", "plan", "org", "expires"}

func isID(text string) bool {
	for _, c := range []byte(text) {
		if !isAlphanumeric(c) && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return len(text) >= 1 && len(text) <= 64
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

const hashScheme = "sha256:"

func (r *reader) checkHash(k *Key, text string) {
	digits, ok := strings.CutPrefix(text, hashScheme)
	n, err := 0, error(nil)
	if ok = ok && len(digits) == 2*len(k.Hash) && digits == strings.ToLower(digits); ok {
		n, err = hex.Decode(k.Hash[:], []byte(digits))
	}
	switch {
	case IsKey(text):
		r.report("hash: is a key, and not the hash of one; whoever has read the file knows it, so make another one with: metergate key -user USER")
		return
	case !ok || err != nil || n != len(k.Hash):
		r.report("hash: must be sha256: and 64 hexadecimal digits, in lower case, as metergate key prints it")
		return
	}
	if i, ok := r.set.byHash[k.Hash]; ok {
		r.report("hash: the key on line %d has the same; keep one of them", r.set.keys[i].Line)
	}
}

// share returns text, and the same memory for the same text.
func (r *reader) share(text string) string {
	same, ok := r.shared[text]
	if !ok {
		same = strings.Clone(text)
		r.shared[same] = same
	}
	return same
}

// ParseExpiry reads when a key expires: a date, on which it is no longer good from 00:00 UTC, or
// a time of RFC 3339.
func ParseExpiry(text string) (time.Time, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		t, err = time.Parse(time.RFC3339, text)
	}
	if err != nil {
		return t, errors.New("must be a date such as 2027-01-01, from which the key is no longer good, or a time such as 2027-01-01T12:00:00Z")
	}
	return t.UTC(), nil
}

// shown quotes the beginning of a text that may be shown.
func shown(text string) string {
	if strings.Contains(text, Prefix) {
		return "of that name"
	}
	if runes := []rune(text); len(runes) > 64 {
		text = string(runes[:60]) + "..."
	}
	return fmt.Sprintf("%q", text)
}
