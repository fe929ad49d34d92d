package redisclient

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota/redisstore/resp"
)

// A Library is a library of Redis functions. The zero value has none.
//
// Redis keeps libraries as it keeps data: on disk, and on its replicas. It refuses a library that has a
// function of the same name as another one. So the names of the library and of its functions must
// change with the source, and then those of two releases can be there together.
type Library struct {
	Name string
	// Source is in Lua, and begins with "#!lua name=NAME\n".
	Source string
	// Function is the name of the function that serves calls. resp.FCallEncoder says what it is given. A single call it answers
	// with a list of numbers, or fails. Several it answers with a list that has, for each call in their order, a list of
	// numbers or an error. Such an error must contain user_function, as those of Redis do when a function fails.
	Function string
}

// Where functions cannot be called for now, the connection is made anew after libraryPause, to load the library. A proxy
// may have loaded it on another Redis than the one that is to call its functions. If a proxy closes the connection
// instead, or never answers, the pause doubles each time, up to longestLibraryPause.
const libraryPause, longestLibraryPause = time.Minute, time.Hour

// load has the Redis at the other end of a connection load the library unless it is there. It reports
// whether its functions can be called. An error reply only means that they cannot: this Redis has no
// functions, its user may not load any, or it takes no writes now. Then isForNow.
func (l Library) load(ctx context.Context, server *redis.Client) (loaded, isForNow bool, err error) {
	var ping *redis.StatusCmd
	var load *redis.StringCmd
	server.Pipelined(ctx, func(p redis.Pipeliner) error {
		// go-redis closes a connection if the first reply is READONLY.
		ping = p.Ping(ctx)
		load = p.FunctionLoad(ctx, l.Source)
		return nil
	})
	switch err := load.Err(); {
	case ping.Err() != nil:
		return false, false, ping.Err()
	case err != nil && IsReply(err):
		word, _, _ := strings.Cut(err.Error(), " ")
		return strings.Contains(err.Error(), "Library '"+l.Name+"' already exists"), word != "ERR" && word != "NOPERM", nil
	default:
		return err == nil, false, err
	}
}

// functions says whether those of the client's library can be called on a connection.
type functions struct {
	callable atomic.Bool  // as far as is known
	oneByOne atomic.Bool  // each call has to be a command of its own
	retryAt  atomic.Int64 // when a new connection is worth a try, in ns since 1970; 0: never
}

// loadLibrary loads the library on a new connection, for which it waits half as long as for a call. After an error the
// connection must not be used. If it has broken, the next ones do without the library until libraryAt.
func (c *Client) loadLibrary(ctx context.Context, server *redis.Client, state *functions) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout/2)
	defer cancel()
	loaded, isForNow, err := c.library.load(ctx, server)
	state.callable.Store(loaded)
	switch {
	case err != nil && !IsReply(err):
		pause := min(longestLibraryPause, c.libraryPause<<min(c.libraryBreaks.Add(1), 10))
		c.libraryAt.Store(time.Now().Add(pause).UnixNano())
	case loaded:
		c.libraryBreaks.Store(0)
	case isForNow:
		state.retryAt.Store(time.Now().Add(c.libraryPause).UnixNano())
	}
	return err
}

// errNoFunctions reports that no functions can be called on a connection. Nothing was sent.
var errNoFunctions = errors.New("functions cannot be called")

// Call has Redis call the function of Options.Library on a key, as Run has it run a script: with the same
// waits and the same errors. resp.FCallEncoder says what shared, terms and own are. The terms must not change any more. own may be
// used again once Call has returned. Only calls with the same shared are sent together.
//
// Not called, without an error: this Redis has no functions, its user may not use them, the library is
// no longer there, or Redis refused the call before the function began, for example because the key is
// on another node, or because it takes no writes. Nothing has changed then. The caller runs a script
// instead, and Run finds out why.
func (c *Client) Call(ctx context.Context, key string, shared int64, terms, own *resp.Args, reply *Reply) (called bool, err error) {
	if c.library.Name == "" {
		return false, nil
	}
	call := calls.Get().(*scriptCall)
	call.command = call.command[:0]
	call.Key, call.Terms, call.shared = key, terms, shared
	call.Own.Reset()
	call.Own.AddAll(own)
	p, err := c.runInPipeline(ctx, key, call, true)
	if p == nil {
		return true, err
	}
	if err == errNoFunctions {
		reply.deadline = time.Time{} // that of call is of an earlier one
		calls.Put(call)
		if at := p.functions.retryAt.Load(); at != 0 && time.Now().UnixNano() >= at {
			p.conn.renewal.renew() // the new connection loads the library
		}
		return false, nil
	}
	*reply = call.reply
	reply.deadline = call.deadline
	hadCompany := call.hadCompany
	calls.Put(call)
	text, isReply := err.(resp.ErrorReply)
	if !isReply {
		return true, err
	}
	if mayHaveChanged(string(text)) {
		p.conn.renewal.see(err)
		return true, c.explain(err)
	}
	p.learnFromRefusal(string(text), hadCompany, c.libraryPause)
	return false, nil
}

// Instead returns the context for a script that is run instead of the function that has given a reply: both together have the time of
// one call.
func Instead(ctx context.Context, reply *Reply) context.Context {
	if reply.deadline.IsZero() {
		return ctx
	}
	return deadlineContext{ctx, reply.deadline}
}

// learnFromRefusal draws the conclusions from a reply that refuses to call a function. together: the command had several
// calls. Most such replies concern scripts as well, and Run sees them next.
func (p *pipeline) learnFromRefusal(reply string, together bool, pause time.Duration) {
	word, _, _ := strings.Cut(reply, " ")
	switch {
	case strings.HasPrefix(reply, "ERR Function not found"):
		p.functions.retryAt.Store(p.began.Add(pause).UnixNano())
		p.functions.callable.Store(false)
	case together && (word == "CROSSSLOT" || word == "ERR" || word == "NOPERM"):
		p.functions.oneByOne.Store(true) // each call alone may be taken
	case word == "ERR", word == "NOPERM":
		// This Redis has no FCALL, or its user may not use it. It would refuse each call.
		p.functions.callable.Store(false)
	}
}
