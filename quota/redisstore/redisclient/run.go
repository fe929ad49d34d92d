package redisclient

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

// A Reply is what a script or function returned, and when, by the gateway's clock.
type Reply struct {
	resp.Reply
	Sent, Received time.Time
	deadline       time.Time // by which Call waited for it, see Instead
}

// Run has Redis run a script on a key, which must have a hash tag (see Slot), and on a second one
// with the same tag unless that is empty, and sets reply to what it returned. args may be used again once Run has
// returned. Run waits as long as the timeout, or until ctx's deadline if that is earlier; before that
// it may wait for a place while too many scripts are under way. The end of ctx ends only the wait for
// a place, and keeps the script from being sent afterwards, for the first time or again: it returns
// ctx's error. A script that Redis does not know is sent once more with its source, on the connection
// that OnConnect has seen. One whose first reply is another error is sent once more by way of go-redis,
// unless it may have changed something before it failed. For the errors, see
// "What it guarantees" in the package comment.
func (c *Client) Run(ctx context.Context, script *redis.Script, key, secondKey string, args *resp.Args, reply *Reply) error {
	call := calls.Get().(*scriptCall)
	call.command = resp.AppendEvalSHA(call.command[:0], script.Hash(), key, secondKey, args)
	p, err := c.runInPipeline(ctx, key, call, false)
	text, isReply := err.(resp.ErrorReply)
	if isReply && strings.HasPrefix(string(text), "NOSCRIPT ") {
		call.command = resp.AppendEval(call.command[:0], sourceOf(script), key, secondKey, args)
		p, err = c.runInPipeline(deadlineContext{ctx, call.deadline}, key, call, false)
		text, isReply = err.(resp.ErrorReply)
	}
	if p == nil {
		return err
	}
	if isReply {
		p.conn.renewal.see(err)
		if mayHaveChanged(string(text)) {
			return c.explain(err)
		}
		c.router.route(key).CompareAndSwap(p, nil) // in a cluster the key may be elsewhere
		return c.runSourcePatiently(deadlineContext{ctx, call.deadline}, script, key, secondKey, args, reply)
	}
	*reply = call.reply
	calls.Put(call)
	return err
}

// runInPipeline has a call sent by the pipeline for a key, and returns once it is done, see Run. It returns
// the pipeline, with an error as well. If that is nil, nobody may look at the call any more. isFunction: the
// call is not sent where functions cannot be called, and the error is errNoFunctions.
func (c *Client) runInPipeline(ctx context.Context, key string, call *scriptCall, isFunction bool) (*pipeline, error) {
	route := c.router.route(key)
	for range 3 {
		p := route.Load()
		if p == nil || !p.usable() {
			deadline := earlierDeadline(ctx, time.Now().Add(c.timeout))
			ctx = deadlineContext{ctx, deadline}
			var err error
			if p, err = c.connectRoute(key, deadline); err != nil {
				return nil, err
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if isFunction && !p.functions.callable.Load() {
			return p, errNoFunctions
		}
		done, err := p.run(ctx, call)
		if !done {
			return nil, c.timeoutError() // the pipeline may still write to call
		}
		if err != errRetired {
			return p, err
		}
	}
	return nil, quota.ErrOverloaded // nothing was sent
}

// MayRepeat reports whether a script that has returned may still run once more: go-redis may have sent it to two nodes of a
// cluster, one of which is slow. It says so for some seconds after any call was made by way of go-redis.
func (c *Client) MayRepeat() bool {
	return c.IsCluster() && time.Since(time.Unix(0, c.lentAt.Load())) < c.timeout+2*setupTimeout
}

// sourceOf returns the source of a script, which go-redis only sends.
func sourceOf(script *redis.Script) string {
	var read sourceReader
	script.Eval(context.Background(), &read, nil)
	return read.source
}

type sourceReader struct {
	redis.Scripter
	source string
}

func (r *sourceReader) Eval(_ context.Context, source string, _ []string, _ ...any) *redis.Cmd {
	r.source = source
	return nil
}

// mayHaveChanged reports whether an error reply may come from the middle of a script or of a function, such
// as that its user may not use a command. Redis does not undo what has been done by then, so to run it
// again could count twice.
func mayHaveChanged(reply string) bool {
	if !strings.Contains(reply, "user_script") && !strings.Contains(reply, "user_function") { // from before it
		return false
	}
	return !slices.ContainsFunc(refusedAtFirstWrite, func(word string) bool { return strings.Contains(reply, word) })
}

// refusedAtFirstWrite are words of replies to the first command of a script or function that would write.
var refusedAtFirstWrite = []string{"READONLY ", "LOADING ", "MASTERDOWN ", "CLUSTERDOWN ", "NOREPLICAS ", "MISCONF "}

// firstPause and longestPause bound the pause before a call is made again for which Redis was not
// ready. It doubles each time, so that many such calls leave room for others.
const firstPause, longestPause = 5 * time.Millisecond, 80 * time.Millisecond

// runSourcePatiently is runSource, again and again while a slot moves: a node that has only one of
// two keys, or neither, replies TRYAGAIN, and has run nothing. Past the deadline of ctx that is an
// error like that of a call without an answer.
func (c *Client) runSourcePatiently(ctx deadlineContext, script *redis.Script, key, secondKey string, args *resp.Args, reply *Reply) (err error) {
	c.lentAt.Store(time.Now().UnixNano())
	defer func() { c.lentAt.Store(time.Now().UnixNano()) }() // it may have waited to be sent
	keys := []string{key}
	if secondKey != "" {
		keys = append(keys, secondKey)
	}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		*reply, err = c.runSource(ctx, script, keys, args)
		if err == nil || !strings.HasPrefix(err.Error(), "TRYAGAIN ") || time.Until(ctx.deadline) <= pause {
			return err
		}
		time.Sleep(pause)
	}
}

// runSource is Run by way of go-redis. It follows a key to where it is, and sends the
// source of the script. An error reply that it returns is final.
func (c *Client) runSource(ctx context.Context, script *redis.Script, keys []string, args *resp.Args) (Reply, error) {
	var reply Reply
	values := args.Values() // the call may outlast the caller, who uses args again
	caller := ctx
	err := c.Do(ctx, func(ctx context.Context, r redis.UniversalClient) error {
		if err := caller.Err(); err != nil {
			return err
		}
		reply.Sent = c.now()
		elements, err := script.Eval(ctx, r, keys, values...).Slice()
		reply.Received = c.now()
		reply.Numbers = make([]int64, len(elements))
		for i, element := range elements {
			switch element := element.(type) {
			case int64:
				reply.Numbers[i] = element
			case string:
				reply.SetText(i, element)
			}
		}
		return err
	})
	if err != nil {
		return Reply{}, err // the call may still be under way, and write to reply
	}
	return reply, nil
}
