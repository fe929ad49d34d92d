package script

import (
	_ "embed"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

//go:embed activity.lua
var activityLua string

//go:embed terms.lua
var termsLua string

//go:embed look.lua
var lookLua string

// Terms is terms.lua, and Look is look.lua, which has no arguments after User and Layout.
var (
	Terms = redis.NewScript(commonLua + activityLua + termsLua)
	Look  = redis.NewScript(commonLua + activityLua + lookLua)
)

// TermsArgs are the arguments of terms.lua, after User and Layout.
type TermsArgs struct {
	Terms string    // as quota.Terms writes them
	Until time.Time // the account is kept until then
	// Idle is what the account must be like; nil: it does not matter.
	Idle *Looked
}

// AppendTo appends the arguments.
func (a *TermsArgs) AppendTo(args *resp.Args) {
	args.AddString(a.Terms)
	args.AddInt(a.Until.UnixMilli())
	args.AddString(a.Idle.condition())
}

// An Assumption is what a gateway assumes about an account, as ARGV[3] of the scripts.
type Assumption struct {
	Override string // see CommonArgs
	Terms    string // only with HasTerms
	HasTerms bool
}

// String is what CommonArgs has as Override.
func (a Assumption) String() string {
	if !a.HasTerms {
		return a.Override
	}
	return a.Override + "\n" + a.Terms
}

// ParseAssumption reads what String returns.
func ParseAssumption(text string) (a Assumption) {
	a.Override, a.Terms, a.HasTerms = strings.Cut(text, "\n")
	return a
}

// A Looked is what look.lua found.
type Looked struct {
	Assumption
	Held    int
	Windows []string // the IDs of those in which something is counted or granted
}

// Activity is what there is of the account.
func (l Looked) Activity() quota.Activity {
	return quota.Activity{Windows: l.Windows, Held: l.Held > 0}
}

// condition has a script find nothing held, and something counted or granted in as many windows as l
// has. Of nil, it has it find anything.
func (l *Looked) condition() string {
	if l == nil {
		return "-"
	}
	return strconv.Itoa(len(l.Windows))
}

// ParseLooked reads the text of a reply of look.lua.
func ParseLooked(text string) (l Looked) {
	l.HasTerms = true
	l.Override, text, _ = strings.Cut(text, "\n")
	l.Terms, text, _ = strings.Cut(text, "\n")
	if words := strings.Fields(text); len(words) > 0 {
		l.Held, _ = strconv.Atoi(words[0])
		l.Windows = words[1:]
	}
	return l
}
