package redistest

import (
	"crypto/sha1"
	"encoding/hex"
	"strconv"
	"strings"

	"metergate/quota/redisstore/script"
)

// A Command is what a client sends: a name and its arguments.
type Command []string

// The scripts of redisstore, as Command.Script names them.
const (
	Read    = "read"
	Reserve = "reserve"
	Commit  = "commit"  // settle.lua, to count
	Release = "release" // settle.lua, to give back
	// CommitRest is settle.lua, to count what a commit has left held.
	CommitRest = "commit-rest"
	Keep       = "keep"
	Change     = "change"
	Leave      = "leave"
	Renew      = "renew"
	Look       = "look"
	History    = "history"
	Terms      = "terms"
	Events     = "events"
	Claims     = "claims"
	Check      = "check" // any of them, on a key of the gateway's own
)

// Script says which script of redisstore a command runs, or which one a function stands for; empty: none of them. It goes
// by the SHA-1 of the script, or by the terms of the first call of the function.
func (c Command) Script() string {
	if len(c) < 4 {
		return ""
	}
	if script.IsCheckKey(c[3]) {
		return Check
	}
	sha := ""
	switch strings.ToLower(c[0]) {
	case "fcall":
		return c.function()
	case "evalsha":
		sha = c[1]
	case "eval":
		sum := sha1.Sum([]byte(c[1]))
		sha = hex.EncodeToString(sum[:])
	}
	switch sha {
	case script.Read.Hash():
		return Read
	case script.Reserve.Hash():
		return Reserve
	case script.Change.Hash(), script.ChangeAlerting.Hash():
		return Change
	case script.Leave.Hash():
		return Leave
	case script.Renew.Hash():
		return Renew
	case script.History.Hash():
		return History
	case script.Look.Hash():
		return Look
	case script.Terms.Hash():
		return Terms
	case script.Keep.Hash():
		return Keep
	case script.Events.Hash():
		return Events
	case script.Claims.Hash():
		return Claims
	}
	if script.IsSettle(sha) {
		keys, _ := strconv.Atoi(c[2])
		return settleUse(c[3+keys:])
	}
	return ""
}

// function says which script the first call of a command with calls of a function stands for.
func (c Command) function() string {
	if c[1] != script.LibraryName {
		return ""
	}
	keys, _ := strconv.Atoi(c[2])
	args := c[3+keys:]
	terms := args[1]
	if keys > 1 {
		terms = args[1+args[1][1]]
	}
	switch {
	case strings.HasPrefix(terms, "$7\r\nreserve\r\n"):
		return Reserve
	case strings.HasPrefix(terms, "$4\r\nrest\r\n"):
		return CommitRest
	}
	return Commit
}

// settleUse says what settle.lua is used for with these arguments: its own begin at index
// rest-1, and the third of them is the count of the first reservation.
func settleUse(args []string) string {
	fields, err := strconv.Atoi(args[5])
	if err != nil {
		return ""
	}
	switch rest := 7 + fields; {
	case strings.HasPrefix(args[rest], "rest/"):
		return CommitRest
	case args[rest+2] != "-":
		return Commit
	}
	return Release
}
