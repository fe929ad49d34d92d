package script

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"metergate/quota"
)

// Fields of an account's hash that are read without a script; common.lua describes them.
const (
	FieldFormat  = "format" // see CheckFormat
	FieldUser    = "user"
	FieldClaimed = "claimed"
	FieldPlan    = "plan"
	FieldAudit   = "audit"
	FieldTerms   = "terms"
	FieldSweep   = "sweep"
	FieldGrants  = "grants"
	FieldPlaces  = "places"
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

// Key returns the name of an account's hash. It contains digests of ids, so that no id can be chosen
// to look like another key. The first one is Redis Cluster's hash tag: all keys of a user, and all
// keys of an organisation, are in one slot each.
//
//	PREFIX:{DIGEST}                  a user
//	PREFIX:{DIGEST}:member:DIGEST    a member: the digests of the organisation and of the user
//	PREFIX:{DIGEST}:org              the pool of an organisation
//
// Releases that know no organisations take none of their keys for that of a user.
func Key(prefix, account string) string {
	org, user := quota.SplitAccount(account)
	switch quota.ScopeOf(account) {
	case quota.MemberScope:
		return tag(prefix, quota.PoolAccount(org)) + memberInfix + digest(user)
	case quota.PoolScope:
		return tag(prefix, account) + poolSuffix
	}
	return tag(prefix, account)
}

const memberInfix, poolSuffix = ":member:", ":org"

// tag returns the part of a key that ends with the hash tag of a user or of a pool. No pool has the
// account of a user.
func tag(prefix, account string) string {
	key := make([]byte, 0, 128) // stays on the stack: a request makes several keys
	key = append(append(key, prefix...), ":{"...)
	return string(append(appendDigest(key, account), '}'))
}

func digest(id string) string { return string(appendDigest(nil, id)) }

func appendDigest(b []byte, id string) []byte {
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.AppendEncode(b, sum[:16])
}

var digestLen = base64.RawURLEncoding.EncodedLen(16)

// KeyPattern returns a pattern for SCAN that matches the keys of all users and members, and may
// match others, see UserDigest.
func KeyPattern(prefix string) string {
	return quotePattern(prefix) + ":{" + strings.Repeat("?", digestLen) + "}*"
}

// MemberPattern is KeyPattern for the members of one organisation.
func MemberPattern(prefix, org string) string {
	return quotePattern(tag(prefix, quota.PoolAccount(org))+memberInfix) + strings.Repeat("?", digestLen)
}

func quotePattern(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}

// UserDigest returns a digest that tells the keys of users and members apart. It returns false if a
// key of KeyPattern is neither.
func UserDigest(key string) (id [16]byte, ok bool) {
	first, rest, _ := strings.Cut(key[strings.LastIndexByte(key, '{')+1:], "}")
	if rest == "" {
		return id, decodeDigest(first, &id)
	}
	second, isMember := strings.CutPrefix(rest, memberInfix)
	var org, user [16]byte
	if !isMember || !decodeDigest(first, &org) || !decodeDigest(second, &user) {
		return id, false
	}
	sum := sha256.Sum256(append(org[:], user[:]...))
	copy(id[:], sum[:])
	return id, true
}

func decodeDigest(text string, digest *[16]byte) bool {
	b, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && len(b) == len(digest) && copy(digest[:], b) == len(digest)
}

// ChangesChannel returns the channel on which the scripts announce that numbers of the user
// with this key have changed.
func ChangesChannel(key string) string { return key + ":changes" }

// IdentityKey returns the key of a hash that identifies the data in the slot of a hash tag. The
// tag is shorter than a user's digest, so that it is not the key of a user.
func IdentityKey(prefix, tag string) string { return prefix + ":identity:{" + tag + "}" }

// CheckKey returns a key in the slot of an account's key, on which a gateway with this id tries what
// it does for accounts. It is never that of one.
func CheckKey(key, gateway string) string {
	return key[:strings.LastIndexByte(key, '}')+1] + checkInfix + gateway
}

const checkInfix = ":check:"

// IsCheckKey reports whether a key is one of CheckKey.
func IsCheckKey(key string) bool { return strings.Contains(key, "}"+checkInfix) }

// MarkerField returns the field that records that a reservation is settled.
func MarkerField(id string) string { return "done/" + id }

// RestMarkerField returns the field that records that the rest of a reservation is settled.
func RestMarkerField(id string) string { return "paid/" + id }

// IsRestMarker reports whether a field is one of RestMarkerField.
func IsRestMarker(field string) bool { return strings.HasPrefix(field, RestMarkerField("")) }

func restField(id string) string { return "rest/" + id }

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
