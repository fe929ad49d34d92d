package script

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"metergate/quota"
)

// Fields of a user's hash that are read without a script; common.lua describes them.
const (
	FieldFormat  = "format" // see CheckFormat
	FieldUser    = "user"
	FieldClaimed = "claimed"
	FieldPlan    = "plan"
	FieldAudit   = "audit"
	FieldTerms   = "terms"
)

// CheckFormat returns an error if a user's hash has a format that this version does not know.
// The value is that of FieldFormat; nil or empty: the field is not there. Scripts check the
// format themselves.
func CheckFormat(value any) error {
	switch value {
	case nil, "", "1":
		return nil
	}
	return fmt.Errorf("%s %v, this version of the gateway knows only format 1", UnknownFormat, value)
}

// UnknownFormat is what errors about a format begin with, those of the scripts as well.
const UnknownFormat = "the data of this user has format"

// Key returns the name of a user's hash. It contains a digest of the user's id, so that no id can be
// chosen to look like another key. The digest is Redis Cluster's hash tag, so that further
// keys of the user can be in the same slot.
func Key(prefix, user string) string {
	sum := sha256.Sum256([]byte(user))
	return prefix + ":{" + base64.RawURLEncoding.EncodeToString(sum[:16]) + "}"
}

// KeyPattern returns a pattern for SCAN that matches the keys of all users, and may match
// others, see UserDigest.
func KeyPattern(prefix string) string {
	quoted := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(prefix)
	return quoted + ":{" + strings.Repeat("?", base64.RawURLEncoding.EncodedLen(16)) + "}"
}

// UserDigest returns the digest of the user's id that a key of KeyPattern contains. It returns
// false if the key is not that of a user.
func UserDigest(key string) (digest [16]byte, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimSuffix(key[strings.LastIndexByte(key, '{')+1:], "}"))
	return digest, err == nil && copy(digest[:], b) == len(digest)
}

// ChangesChannel returns the channel on which the scripts announce that numbers of the user
// with this key have changed.
func ChangesChannel(key string) string { return key + ":changes" }

// IdentityKey returns the key of a hash that identifies the data in the slot of a hash tag. The
// tag is shorter than a user's digest, so that it is not the key of a user.
func IdentityKey(prefix, tag string) string { return prefix + ":identity:{" + tag + "}" }

// CheckKey returns a key in the slot of a user's key, on which a gateway with this id tries what it
// does for users. It is never that of a user, which ends with the digest.
func CheckKey(key, gateway string) string { return key + checkInfix + gateway }

const checkInfix = ":check:"

// IsCheckKey reports whether a key is one of CheckKey.
func IsCheckKey(key string) bool { return strings.Contains(key, "}"+checkInfix) }

// MarkerField returns the field that records that a reservation is settled.
func MarkerField(id string) string { return "done/" + id }

func leaseField(id string) string { return "lease/" + id }

func placeField(id string) string { return "place/" + id }

// UsedPrefix returns the prefix of the fields with a window's requests by endpoint.
func UsedPrefix(window string) string { return "used/" + window + "/" }

// ExtraPrefix returns the prefix of the fields that say, by endpoint, by how much the units of a
// window's requests exceed their number.
func ExtraPrefix(window string) string { return "extra/" + window + "/" }

// GrantField returns the field with what was granted to a limit on this counter of a window.
func GrantField(counter string, quantity quota.Quantity) string {
	if quantity == quota.Units {
		return "unitgrant/" + counter
	}
	return "grant/" + counter
}

// UsedFields returns the fields with the counts of one endpoint and of all in a window.
func UsedFields(window, endpoint string) []string {
	return []string{UsedPrefix(window) + endpoint, "used/" + CounterName(window, "")}
}

// CounterName returns how the scripts name the counter of a window, of one endpoint or, if
// endpoint is empty, of all.
func CounterName(window, endpoint string) string {
	if endpoint == "" {
		return window
	}
	return window + "/" + endpoint
}
