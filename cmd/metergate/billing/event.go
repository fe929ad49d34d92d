package billing

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// A Bill is what a user has used of an endpoint in an hour, or a part of that, as the admin API lists it.
type Bill struct {
	User     string    `json:"user"`
	Org      string    `json:"org,omitempty"` // empty: none
	Endpoint string    `json:"endpoint"`
	Hour     time.Time `json:"hour"` // its start, in UTC
	Revision int64     `json:"revision"`
	Requests int64     `json:"requests"`
	Units    int64     `json:"units"`
}

// ID is the id of the bill's event, 35 letters and digits. It is the same each time, and differs between
// sources: the names of installations that send to the same receiver.
func (b Bill) ID(source string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{source, b.Org, b.User, b.Endpoint, b.Hour.UTC().Format(time.RFC3339), strconv.FormatInt(b.Revision, 10)}, "\n")))
	return "mg_" + hex.EncodeToString(sum[:16])
}

// An event is a bill on its way to a receiver.
type event struct {
	bill     Bill
	id       string
	customer string // whom the receiver bills
	code     string // what it calls the endpoint; empty: it has no name of its own
	// silent: there is nothing to send, and the bill is done with.
	silent bool
}

// NotBilled is the customer or the code of what is not billed: nothing is sent, and the bill is done with.
const NotBilled = ""

// ownID is the customer of those who have the same id at the receiver.
const ownID = "*"

// anyKey is the key of Options.Customers and Options.Codes for all others.
const anyKey = "*"

// look returns the value of a key, or else the one for all others.
func look(m map[string]string, key string) (value string, ok bool) {
	if value, ok = m[key]; !ok {
		value, ok = m[anyKey]
	}
	return value, ok
}

// billed names in messages whom a bill is for.
func (s *Sender) billed(b Bill) string {
	switch {
	case b.Org == "":
		return "user " + strconv.Quote(b.User)
	case s.ByOrg:
		return "organisation " + strconv.Quote(b.Org)
	}
	return "user " + strconv.Quote(b.User) + " of organisation " + strconv.Quote(b.Org)
}

// newEvent makes the event of a bill. It returns why there can be none; empty: there is one.
func (s *Sender) newEvent(b Bill) (e event, fault string) {
	e = event{bill: b, id: b.ID(s.Source), customer: b.User}
	if s.ByOrg && b.Org != "" {
		e.customer = b.Org
	}
	code, mapped := look(s.Codes, b.Endpoint)
	if e.code = code; mapped && code == NotBilled {
		e.silent = true
		return e, ""
	}
	if s.Customers != nil {
		customer, known := look(s.Customers, e.customer)
		if !known {
			return e, "there is no customer for " + strconv.Quote(e.customer)
		}
		switch customer {
		case NotBilled:
			e.silent = true
			return e, ""
		case ownID:
		default:
			e.customer = customer
		}
	}
	s.receiver.prepare(&e)
	return e, ""
}
