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

// PlainTerms returns, as one argument, all arguments of the ReserveFunction that do not depend on the ID. nil: the request is
// not plain.
func (a *ReserveArgs) PlainTerms(layout *resp.Args) *resp.Args {
	if a.Indexes == "" || a.options() != "" {
		return nil
	}
	var terms resp.Args
	terms.AddAll(layout)
	a.appendAfterID(&terms)
	return terms.AsOne()
}

// A Crossing says that a limit reaches a threshold with a count.
type Crossing struct {
	Pair  int // of the Layout, from 1 on: it has what is used of the limit
	Count int64
}

// PlainTerms does the same for the SettleFunction, which leaves a request that makes one of the crossings to the script.
func (a *SettleArgs) PlainTerms(layout *resp.Args, crossings []Crossing) *resp.Args {
	if a.Indexes == "" || !a.IsPlain() {
		return nil
	}
	var terms resp.Args
	terms.AddAll(layout)
	terms.AddString(a.Indexes)
	terms.AddInt(int64(len(crossings)))
	for _, c := range crossings {
		terms.AddInt(int64(2*c.Pair - 1))
		terms.AddInt(c.Count)
	}
	a.appendCounters(&terms, a.Reservations[0])
	return terms.AsOne()
}

// AppendPlain appends the arguments of a function after the offset, for a reservation with this ID. Only the
// SettleFunction takes forgotten, see SettleArgs.
func AppendPlain(args, terms *resp.Args, id string, forgotten []string) {
	args.AddAll(terms)
	args.AddString(leaseField(id))
	args.AddString(MarkerField(id))
	for _, field := range forgotten {
		args.AddString(field)
	}
}
