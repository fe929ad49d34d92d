package redisclient

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A WrongKindError reports a server of another kind than the URL says: a node of a cluster, a
// Sentinel or a single Redis that was given as something else. Some calls to such a server may
// succeed, so nobody would look at the URL.
type WrongKindError struct {
	Advice string // what the server is, and how to write it in the URL
	Err    error  // a reply that shows it; nil: the server says so itself
}

func (e *WrongKindError) Error() string {
	if e.Err == nil {
		return e.Advice
	}
	return fmt.Sprintf("%s (%v)", e.Advice, e.Err)
}

// Unwrap returns the reply.
func (e *WrongKindError) Unwrap() error { return e.Err }

const (
	adviceCluster  = "the server in store.url is a node of a Redis Cluster; write redis+cluster://HOST:PORT,HOST:PORT with some of its nodes"
	adviceSentinel = "the server in store.url is a Sentinel; write redis+sentinel://HOST:PORT,HOST:PORT/NAME with all Sentinels and the name of the master"
	adviceScripts  = "the server in store.url does not run scripts (EVAL and EVALSHA); if its redis.conf has rename-command for one of them, remove that; connect without the proxy, if there is one; a Sentinel is written as redis+sentinel://HOST:PORT/NAME"
	adviceSingle   = "the server in store.url is not a node of a Redis Cluster; a single Redis is written as redis://HOST:PORT, Sentinels as redis+sentinel://HOST:PORT,HOST:PORT/NAME"
	adviceNoSent   = "a server in store.url is not a Sentinel; write the addresses of the Sentinels, or redis://HOST:PORT for a single Redis"
)

// explain returns err, as a *WrongKindError if it shows that the server is of another kind.
func (c *Client) explain(err error) error {
	if err == nil || !IsReply(err) {
		return err
	}
	l, text := &c.location, strings.ToLower(err.Error())
	advice := ""
	switch single := !l.Cluster && l.Master == ""; {
	case !l.Cluster && (strings.HasPrefix(text, "moved ") || strings.HasPrefix(text, "ask ")):
		advice = adviceCluster
	case l.Cluster && (strings.Contains(text, "cluster support disabled") || isUnknown(text, "cluster")):
		advice = adviceSingle
	case l.Master != "" && isUnknown(text, "sentinel"):
		advice = adviceNoSent
	case single && (isUnknown(text, "evalsha") || isUnknown(text, "eval")):
		advice = adviceScripts
	default:
		return err
	}
	return &WrongKindError{Advice: advice, Err: err}
}

// isUnknown reports whether a reply says that the server has no such command. Redis 5 and later
// quote its name with `, ' or nothing.
func isUnknown(text, command string) bool {
	_, rest, ok := strings.Cut(text, "unknown command ")
	return ok && strings.HasPrefix(strings.TrimLeft(rest, "'`"), command)
}

// CheckKind asks a server that the URL gives as a single Redis, or that a Sentinel has named as
// the master, what it is, with some keys of different slots. Errors are a *WrongKindError, and
// those of the connection. It returns nil if the server does not tell.
func (c *Client) CheckKind(ctx context.Context, server *redis.Client, keys []string) error {
	if c.location.Cluster {
		return nil // a server that is none does not get this far
	}
	switch mode(ctx, server) {
	case "sentinel":
		return &WrongKindError{Advice: adviceSentinel}
	case "cluster":
		// A cluster of one node serves as a single Redis does.
		_, err := server.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, key := range keys {
				p.PTTL(ctx, key)
			}
			return nil
		})
		if wrong := (*WrongKindError)(nil); errors.As(c.explain(err), &wrong) {
			return wrong
		}
		return err
	}
	return nil
}

// mode returns what a server says it is: standalone, sentinel or cluster; empty: it does not
// tell.
func mode(ctx context.Context, server *redis.Client) string {
	// Redis 6 and later. It changes nothing without an argument.
	if hello, err := server.Do(ctx, "HELLO").Result(); err == nil {
		if mode := replyField(hello, "mode"); mode != "" {
			return mode
		}
	}
	info, _ := server.Info(ctx, "server").Result()
	for line := range strings.Lines(info) {
		if mode, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_mode:"); ok {
			return mode
		}
	}
	return ""
}
