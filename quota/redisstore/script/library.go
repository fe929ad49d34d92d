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

// LibraryName is the name of the library. Each version of the library has another name, because gateways of two versions
// use one Redis during an upgrade.
var LibraryName = func() string {
	sum := sha1.Sum([]byte(librarySource("")))
	return "metergate_" + hex.EncodeToString(sum[:8])
}()

// LibrarySource is library.lua with plainreserve.lua and plainsettle.lua in it.
var LibrarySource = librarySource(LibraryName)

// The functions of the library. Their replies are those of the scripts, or begin with Rare.
var (
	ReserveFunction = LibraryName + "_reserve"
	SettleFunction  = LibraryName + "_settle"
)

// IsRare reports whether a function has done nothing, because the request is not plain.
func IsRare(reply *resp.Reply) bool { return len(reply.Numbers) > 0 && reply.Numbers[0] == 10 }

func librarySource(name string) string {
	return strings.NewReplacer("LIBRARY", name, "PLAINRESERVE", plainReserveLua, "PLAINSETTLE", plainSettleLua).Replace(libraryLua)
}

// LibraryCommandsAt is CommandsAt for a line of the library.
func LibraryCommandsAt(line int) (commands []string) { return commandsOn(LibrarySource, line) }

// AppendPlain appends the arguments of the ReserveFunction after the offset. It reports whether the request may be plain;
// if not, it appends nothing. terms is memory to use.
func (a *ReserveArgs) AppendPlain(args, terms *resp.Args, layout *resp.Args) bool {
	if a.Indexes == "" || a.options() != "" {
		return false
	}
	terms.Reset()
	terms.AddAll(layout)
	a.appendAfterID(terms)
	args.AddArgs(terms)
	args.AddString(leaseField(a.ID))
	args.AddString(MarkerField(a.ID))
	return true
}

// A Crossing says that a limit reaches a threshold with a count.
type Crossing struct {
	Pair  int // of the Layout, from 1 on: it has what is used of the limit
	Count int64
}

// AppendPlain appends likewise the arguments of the SettleFunction. It leaves to the script what makes one of the crossings.
func (a *SettleArgs) AppendPlain(args, terms *resp.Args, layout *resp.Args, crossings []Crossing) bool {
	if a.Indexes == "" || !a.IsPlain() {
		return false
	}
	r := a.Reservations[0]
	terms.Reset()
	terms.AddAll(layout)
	terms.AddString(a.Indexes)
	terms.AddInt(int64(len(crossings)))
	for _, c := range crossings {
		terms.AddInt(int64(2*c.Pair - 1))
		terms.AddInt(c.Count)
	}
	a.appendCounters(terms, r)
	args.AddArgs(terms)
	args.AddString(leaseField(r.ID))
	args.AddString(MarkerField(r.ID))
	for _, field := range a.Forgotten {
		args.AddString(field)
	}
	return true
}
