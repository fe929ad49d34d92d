package quota

import "strings"

// A store knows whom it counts for by one string, an account: a user, a member of an organisation,
// or the pool that the members of an organisation share. The same person in two organisations has
// an account in each, and one more without an organisation.
//
// The account of a user is the user's id. The others begin with a separator, which is a control
// character and so in no id.
const accountSeparator = "\x1f"

// MemberAccount returns the account of a user in an organisation; an empty org: in none.
func MemberAccount(org, user string) string {
	if org == "" {
		return user
	}
	return accountSeparator + org + accountSeparator + user
}

// CheckedAccount is MemberAccount for ids that nobody has checked, either of which may be empty. It
// returns an ErrInvalidChange if one of them cannot be an id, or both are empty.
func CheckedAccount(org, user string) (string, error) {
	account := MemberAccount(org, user)
	switch o, u := SplitAccount(account); {
	case o != org:
		return "", invalid("%s", badOrgID)
	case u != user:
		return "", invalid("%s", badUserID)
	}
	return account, Change{Action: ActionReset}.Validate(account)
}

// Why an id is refused.
const (
	badOrgID  = "an organisation's id must be 1 to 256 bytes of UTF-8 without control characters"
	badUserID = "a user's id must be 1 to 256 bytes of UTF-8 without control characters"
)

// PoolAccount returns the account of the pool of an organisation, which is not empty.
func PoolAccount(org string) string { return MemberAccount(org, "") }

// PoolOf returns the account of the pool of a member's organisation; empty: the account is not a member.
func PoolOf(account string) string {
	if ScopeOf(account) != MemberScope {
		return ""
	}
	org, _ := SplitAccount(account)
	return PoolAccount(org)
}

// SplitAccount returns the organisation and the user of an account. The organisation of a user
// without one is empty, and so is the user of a pool.
func SplitAccount(account string) (org, user string) {
	rest, found := strings.CutPrefix(account, accountSeparator)
	if !found {
		return "", account
	}
	org, user, _ = strings.Cut(rest, accountSeparator)
	return org, user
}

// A Scope is a kind of account.
type Scope uint8

// The scopes. Which limits of a plan apply depends on them, see Plan.ForScope.
const (
	UserScope   Scope = iota // the zero value: a user without an organisation
	MemberScope              // a user in an organisation
	PoolScope                // an organisation's pool
)

// ScopeOf returns the scope of an account.
func ScopeOf(account string) Scope {
	switch org, user := SplitAccount(account); {
	case org == "":
		return UserScope
	case user == "":
		return PoolScope
	}
	return MemberScope
}
