package script

import (
	"encoding/base64"
	"path"
	"strings"
	"testing"

	"metergate/quota"
)

// Keys of users, members, pools and of gateways' own are never taken for one another, whatever is in
// the ids.
func TestKeysAreToldApart(t *testing.T) {
	const prefix = "a[b]{c}*"
	ids := []string{"u", "acme", "org", "{u}", ":org", "}:check:", ":member:"}
	keys := map[string]string{}
	slotTag := func(key string) string { return key[strings.LastIndexByte(key, '{'):strings.LastIndexByte(key, '}')] }
	note := func(what, key string) {
		t.Helper()
		if other, taken := keys[key]; taken {
			t.Errorf("%s has the key of %s: %s", what, other, key)
		}
		keys[key] = what
	}
	digests := map[[16]byte]string{}
	for _, a := range ids {
		user, pool := Key(prefix, a), Key(prefix, quota.PoolAccount(a))
		note("user "+a, user)
		note("pool "+a, pool)
		accounts := []string{user}
		for _, b := range ids {
			member := Key(prefix, quota.MemberAccount(a, b))
			note("member "+b+" of "+a, member)
			if slotTag(member) != slotTag(pool) {
				t.Errorf("a member has the key %s, and the pool %s: two slots", member, pool)
			}
			if ok, err := path.Match(MemberPattern(prefix, a), member); !ok || err != nil {
				t.Errorf("the pattern %s does not match %s (error %v)", MemberPattern(prefix, a), member, err)
			}
			accounts = append(accounts, member)
		}
		for _, key := range accounts {
			digest, ok := UserDigest(key)
			if other, taken := digests[digest]; !ok || taken {
				t.Errorf("%s is a user's key: %v, with the digest of %q", key, ok, other)
			}
			digests[digest] = key
			check := CheckKey(key, "GATEWAY")
			if !IsCheckKey(check) || IsCheckKey(key) || slotTag(check) != slotTag(key) {
				t.Errorf("the check key of %s is %s", key, check)
			}
		}
		for _, key := range []string{pool, CheckKey(user, "G"), CheckKey(pool, "G"), IdentityKey(prefix, "42"), ChangesChannel(user)} {
			if _, ok := UserDigest(key); ok {
				t.Errorf("%s is taken for the key of a user", key)
			}
		}
	}
}

// Release 0.1.0 looks for users with this pattern and takes for one what ends with a digest. It must
// not find members and pools, of which it knows nothing.
func TestOldReleaseFindsUsersAlone(t *testing.T) {
	found := func(key string) bool {
		matches, _ := path.Match("m:{"+strings.Repeat("?", 22)+"}", key)
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimSuffix(key[strings.LastIndexByte(key, '{')+1:], "}"))
		return matches || err == nil && len(b) >= 16
	}
	if key := Key("m", "u"); key != "m:{C_6TXnDDIcfKOvx1zg0Mog}" || !found(key) { // as release 0.1.0 has it
		t.Errorf("a user has the key %s", key)
	}
	for _, account := range []string{quota.MemberAccount("acme", "u"), quota.PoolAccount("acme")} {
		if found(Key("m", account)) {
			t.Errorf("%q is found as a user", account)
		}
	}
}
