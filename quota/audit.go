package quota

import (
	"encoding/json"
	"time"
)

// An AuditEntry is one line of a user's audit log: a Change, and when it was made by the
// store's clock, to the millisecond. A grant to the headline limit has that limit's Period.
type AuditEntry struct {
	At time.Time `json:"at"`
	Change
}

// DecodeAuditEntry reads an entry from the time and the text that Change.Encode returned.
func DecodeAuditEntry(at time.Time, text []byte) (AuditEntry, error) {
	e := AuditEntry{At: at}
	err := json.Unmarshal(text, &e.Change)
	return e, err
}
