// Package apikeys has the API keys of programs: how a key is made, the file that says who each
// key is for, and how the gateway looks one up.
//
//	key := apikeys.New()                       // mg_ and 49 letters and digits
//	set, faults := apikeys.Read(file, hasPlan) // the file has a line for each key
//	entry := set.Find(key)                     // nil: there is no such key
//
// A key is 256 random bits, so nobody can guess one, and its SHA-256 says nothing about it. The
// file and the process keep only that hash. Nothing in this package shows a key in an error.
package apikeys

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"hash/crc32"
	"math/big"
	"strings"
	"time"
)

// Prefix is what every key begins with.
const Prefix = "mg_"

const (
	// maxKeyBytes is the greatest length of a key. Keys that New makes have 52 bytes.
	maxKeyBytes = 256
	// randomDigits is the number of base-62 digits that hold 256 bits, checkDigits that of 32.
	randomDigits, checkDigits = 43, 6
)

// IsKey reports whether text is meant to be a key, good or not.
func IsKey(text string) bool { return strings.HasPrefix(text, Prefix) }

// New makes a key: the prefix, 43 random digits and 6 check digits. The check digits are the
// CRC-32 of the others in base 62, like those of GitHub's tokens. They are for tools that look for
// keys in source code; the gateway looks keys up and does not need them.
func New() string {
	random := make([]byte, 32)
	rand.Read(random) // never fails
	digits := base62(new(big.Int).SetBytes(random), randomDigits)
	return Prefix + digits + base62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(digits)))), checkDigits)
}

// base62 writes n with a number of digits: 0-9, then a-z, then A-Z.
func base62(n *big.Int, digits int) string {
	text := n.Text(62)
	return strings.Repeat("0", digits-len(text)) + text
}

// A Key is what the file says of a key.
type Key struct {
	// ID names the key for people: 1 to 64 letters, digits, ".", "-" and "_".
	ID string
	// Hash is the SHA-256 of the whole key.
	Hash [sha256.Size]byte
	// User is who the key is for, and Org their organisation: ids as quota.CheckedAccount accepts
	// them. Org may be empty.
	User, Org string
	// Plan is the name of a plan; empty: the key names none.
	Plan string
	// Expires is the time from which the key is no longer good; zero: never.
	Expires time.Time
	// Line is where the key stands in the file, from 1.
	Line int
}

// NewKey returns a Key that has only its hash.
func NewKey(key string) Key { return Key{Hash: sha256.Sum256([]byte(key))} }

// A Set has the keys of a file. It does not change. A nil Set is empty.
type Set struct {
	keys []Key
	// byHash has the indexes of keys.
	byHash map[[sha256.Size]byte]int32
}

// Find returns what the file says of a key, which may have expired; nil: it has no such key. How
// long that takes says nothing about the keys in the set: it depends on hashes, which nobody can
// choose, and the last comparison takes constant time.
func (s *Set) Find(key string) *Key {
	if s == nil || len(key) > maxKeyBytes {
		return nil
	}
	sum := sha256.Sum256([]byte(key))
	i, found := s.byHash[sum]
	if !found || subtle.ConstantTimeCompare(s.keys[i].Hash[:], sum[:]) != 1 {
		return nil
	}
	return &s.keys[i]
}

// Keys returns all keys in the order of the file. The caller must not change them.
func (s *Set) Keys() []Key {
	if s == nil {
		return nil
	}
	return s.keys
}

// HasOrganisations reports whether a key is for a member of an organisation.
func (s *Set) HasOrganisations() bool {
	for _, k := range s.Keys() {
		if k.Org != "" {
			return true
		}
	}
	return false
}
