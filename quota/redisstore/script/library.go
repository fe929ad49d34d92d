package script

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"strings"

	"metergate/quota/redisstore/resp"
)

//go:embed library.lua
var libraryLua string

// LibraryName is the name of the library, and of its function. Each version of the library has another name, because
// gateways of two versions use one Redis during an upgrade.
var LibraryName = func() string {
	sum := sha1.Sum([]byte(librarySource("")))
	return "metergate_" + hex.EncodeToString(sum[:8])
}()

// LibrarySource is library.lua with plainreserve.lua, plainsettle.lua and plainrest.lua in it.
var LibrarySource = librarySource(LibraryName)

// IsRare reports whether a function has done nothing, because the request is not plain.
func IsRare(reply *resp.Reply) bool { return len(reply.Numbers) > 0 && reply.Numbers[0] == 10 }

func librarySource(name string) string {
	return strings.NewReplacer("LIBRARY", name, "PLAINRESERVE", plainReserveLua, "PLAINSETTLE", plainSettleLua, "PLAINREST", plainRestLua).Replace(libraryLua)
}

// LibraryCommandsAt is CommandsAt for a line of the library.
func LibraryCommandsAt(line int) (commands []string) { return commandsOn(LibrarySource, line) }

// The first of the terms says what a call of the library's function is for.
const (
	toReserve = "reserve"
	toSettle  = "settle"
	toRest    = "rest"
)

// PlainTerms returns, as one argument, all that the library's function is told of a request to hold that does not depend
// on the ID. nil: the request is not plain.
func (a *ReserveArgs) PlainTerms(layout *resp.Args) *resp.Args {
	if a.Indexes == "" || a.Observed || a.Concurrent.Requests > 0 {
		return nil
	}
	var terms resp.Args
	terms.AddString(toReserve)
	terms.AddAll(layout)
	a.appendAfterID(&terms)
	return terms.AsOne()
}

// A Crossing says that a limit reaches a threshold with a count.
type Crossing struct {
	Pair  int // of the Layout, from 1 on: it has what is used of the limit
	Count int64
}

// PlainTerms does the same for a request to count. One that makes one of the crossings is left to the script.
func (a *SettleArgs) PlainTerms(layout *resp.Args, crossings []Crossing) *resp.Args {
	one := a.PlainOne()
	if a.Indexes == "" || one == nil {
		return nil
	}
	var terms resp.Args
	if len(a.Rests) > 0 {
		terms.AddString(toRest)
	} else {
		terms.AddString(toSettle)
	}
	terms.AddAll(layout)
	terms.AddString(a.Indexes)
	terms.AddInt(int64(len(crossings)))
	for _, c := range crossings {
		terms.AddInt(int64(2*c.Pair - 1))
		terms.AddInt(c.Count)
	}
	a.appendCounters(&terms, one)
	return terms.AsOne()
}

// AppendPlain appends what the library's function is told of a reservation to hold alone.
func AppendPlain(own *resp.Args, id string) {
	own.AddString(leaseField(id))
	own.AddString(MarkerField(id))
}

// AppendPlain does the same for the only reservation to settle.
func (a *SettleArgs) AppendPlain(own *resp.Args) {
	switch {
	case len(a.Rests) > 0:
		appendRest(own, a.Rests[0])
	case a.Reservations[0].HeldUnits() > 1:
		a.appendReservation(own, a.Reservations[0])
	default:
		AppendPlain(own, a.Reservations[0].ID)
	}
	for _, field := range a.Forgotten {
		own.AddString(field)
	}
}
