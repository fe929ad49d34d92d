package redisstore

import (
	"fmt"
	"slices"
	"time"
)

// A mark identifies the data of one slot, which stands for all data of a master. It is a hash in
// Redis, see readMarks. The zero value means that there is none.
type mark struct {
	ID string `json:"id"` // random
	// Beat is a number that all gateways count up every checkDataEvery, and BeatAt when this was
	// done last. Data with a lower Beat than one that was seen before are older.
	Beat   int64     `json:"beat"`
	BeatAt time.Time `json:"beat_at"`
	// Outdated, of a mark that a gateway remembers: the data with this ID have been found older
	// than before. Since Beat grows again, only data with another ID are good.
	Outdated bool `json:"outdated,omitempty"`
	// replaces are the IDs in whose place an administrator has accepted this one.
	replaces []string
}

// A loss is what is wrong with data.
type loss int

const (
	noLoss loss = iota
	lossOfAll
	otherData
	olderData
)

// compare says what has happened to data with the mark m when they have the mark seen.
func (m mark) compare(seen mark) loss {
	switch {
	case seen.ID == "":
		return lossOfAll
	case seen.ID != m.ID && !slices.Contains(seen.replaces, m.ID):
		return otherData
	case seen.ID == m.ID && (m.Outdated || seen.Beat < m.Beat):
		return olderData
	}
	return noLoss
}

// maxReplaced bounds the IDs that a mark replaces.
const maxReplaced = 16

// successor is the mark with an ID that replaces m, the mark of what was known before.
func (m mark) successor(id, known string) mark {
	next := mark{ID: id, Beat: m.Beat, BeatAt: m.BeatAt, replaces: slices.Clone(m.replaces)}
	for _, old := range []string{m.ID, known} {
		if old != "" && !slices.Contains(next.replaces, old) {
			next.replaces = append(next.replaces, old)
		}
	}
	next.replaces = next.replaces[max(0, len(next.replaces)-maxReplaced):]
	return next
}

// A DataLostError reports that Redis no longer has the data that it had before.
type DataLostError struct {
	At   time.Time // when the gateway noticed
	what string
	// refuses: metered requests are refused until the data are back, or accepted.
	refuses bool
}

func newDataLostError(kind loss, known, seen mark, at time.Time, part string, refuses bool) *DataLostError {
	e := &DataLostError{At: at, refuses: refuses}
	switch kind {
	case lossOfAll:
		e.what = "Redis" + part + " has lost all counts: it was emptied, it restarted without its data, or an empty one took its place"
	case otherData:
		e.what = "Redis" + part + " has other data than before: it was emptied and counts anew, or another one took its place"
	case olderData:
		e.what = fmt.Sprintf("Redis%s has older data than before, of %s instead of %s: a backup was restored, or a replica that was behind took over",
			part, seen.BeatAt.UTC().Format(time.RFC3339), known.BeatAt.UTC().Format(time.RFC3339))
	}
	return e
}

func (e *DataLostError) Error() string {
	at := e.At.UTC().Format(time.RFC3339)
	if e.refuses {
		return e.what + "; noticed at " + at + "; metered requests get 503 until the data are back, or until you accept what is there with: metergate accept-data"
	}
	return e.what + "; noticed at " + at + "; users go on with the counts that are there"
}
