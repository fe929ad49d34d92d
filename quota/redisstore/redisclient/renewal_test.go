package redisclient

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/redisurl"
	"metergate/quota/redisstore/resp"
	"metergate/quota/testkit"
)

// faultReplies are what a Redis says on a connection while another one at the same address would
// serve the call.
var faultReplies = []string{
	"READONLY You can't write against a read only replica.",
	"ERR Error running script (call to f_6b1bf486c81ceb7edf3c093f4c48582e38c0e791): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica. ",
	"NOAUTH Authentication required.",
	"WRONGPASS invalid username-password pair or user is disabled.",
	"NOPERM this user has no permissions to run the 'evalsha' command",
	"LOADING Redis is loading the dataset in memory",
	"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
	"CLUSTERDOWN The cluster is down",
	"NOREPLICAS Not enough good replicas to write.",
	"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
}

// TestRunRenewsFaultyConnection checks that a script succeeds at once, by way of a new
// connection, and so do the next ones.
func TestRunRenewsFaultyConnection(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, reply := range faultReplies {
		t.Run(strings.Fields(reply)[0], func(t *testing.T) {
			p := redistest.StartFaultProxy(t, server.Addr)
			c := newClient(t, p.URL(), patient, 8)
			mustEcho(t, c)
			mustEcho(t, c)
			openPooled(t, c, 8)
			p.AnswerOpen(reply)
			for range 3 {
				mustEcho(t, c)
			}
		})
	}
}

// openPooled makes n connections of go-redis's pool.
func openPooled(t testing.TB, c *Client, n int) {
	t.Helper()
	var all, together sync.WaitGroup
	together.Add(n)
	for range n {
		all.Go(func() {
			err := c.Do(ctx, func(ctx context.Context, r redis.UniversalClient) error {
				conn := r.(*redis.Client).Conn()
				defer conn.Close()
				err := conn.Ping(ctx).Err()
				together.Done()
				together.Wait()
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func ping(c *Client) error {
	return c.Do(ctx, func(ctx context.Context, r redis.UniversalClient) error { return r.Ping(ctx).Err() })
}

func pingInPipeline(c *Client) error {
	return c.Do(ctx, func(ctx context.Context, r redis.UniversalClient) error {
		_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error { p.Ping(ctx); return nil })
		return err
	})
}

// TestDoRenewsFaultyConnections checks that one such reply is enough to give up all connections
// of the pool, and not only the one that it came on.
func TestDoRenewsFaultyConnections(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, call := range map[string]func(*Client) error{"a command": ping, "a pipeline": pingInPipeline} {
		for _, reply := range faultReplies {
			t.Run(name+" "+strings.Fields(reply)[0], func(t *testing.T) {
				p := redistest.StartFaultProxy(t, server.Addr)
				c := newClient(t, p.URL(), patient, 8)
				openPooled(t, c, 8)
				if err := call(c); err != nil {
					t.Fatal(err)
				}
				p.AnswerOpen(reply)
				if err := call(c); err == nil || !strings.Contains(err.Error(), reply) {
					t.Fatalf("the first call: error %v, want %s", err, reply)
				}
				for i := range 10 {
					if err := call(c); err != nil {
						t.Fatalf("call %d after it: %v", i+1, err)
					}
				}
			})
		}
	}
}

// TestOtherErrorsRenewNothing checks that errors about a call leave the connections alone.
func TestOtherErrorsRenewNothing(t *testing.T) {
	for _, err := range []error{
		nil, context.DeadlineExceeded, errors.New("READONLY is not from Redis"),
		resp.ErrorReply("NOSCRIPT No matching script."), resp.ErrorReply("MOVED 1 127.0.0.1:1"), resp.ErrorReply("ASK 1 127.0.0.1:1"),
		resp.ErrorReply("TRYAGAIN Multiple keys"), resp.ErrorReply("ERR the words READONLY and NOAUTH in a message"),
		resp.ErrorReply("OOM command not allowed when used memory > 'maxmemory'."), resp.ErrorReply("BUSY Redis is busy"),
	} {
		if isConnectionFault(err) {
			t.Errorf("%v counts as a fault of the connection", err)
		}
	}
}

// TestLastingFaultDoesNotStormRedis checks that replies that a new connection does not cure make
// no more than one renewal a second.
func TestLastingFaultDoesNotStormRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Needs(t, "6", "ACL")
	c := newClient(t, server.URL(), patient, 8)
	mustEcho(t, c)
	server.Do("ACL", "SETUSER", "default", "-set")
	before, start := countConnections(server), time.Now()
	for range 500 {
		err := c.Do(ctx, func(ctx context.Context, r redis.UniversalClient) error { return r.Set(ctx, "k", 1, 0).Err() })
		if err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Fatalf("error %v, want NOPERM", err)
		}
	}
	most := 2 * (2 + int(time.Since(start)/renewEvery))
	if n := countConnections(server) - before - 1; n > most {
		t.Errorf("500 refused calls made %d connections, want %d at most", n, most)
	}
	mustEcho(t, c)
}

// subscribe listens to a channel, and returns what is said on it: "subscribed" and messages.
func subscribe(t testing.TB, c *Client, channel string) <-chan string {
	t.Helper()
	s, said, ended := c.Subscribe(), make(chan string, 100), make(chan bool)
	go func() {
		defer close(ended)
		for {
			message, err := s.Receive()
			switch m := message.(type) {
			case *redis.Message:
				said <- m.Payload
			case *redis.Subscription:
				said <- "subscribed"
			}
			if errors.Is(err, redis.ErrClosed) {
				return
			}
		}
	}()
	t.Cleanup(func() { s.Close(); <-ended })
	if err := s.Add(ctx, channel); err != nil {
		t.Fatal(err)
	}
	return said
}

// TestSubscriptionRenewsFaultyConnection checks that announcements come again, whether the reply
// comes on the subscription's own connection or on another.
func TestSubscriptionRenewsFaultyConnection(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, reply := range faultReplies {
		t.Run(strings.Fields(reply)[0], func(t *testing.T) {
			t.Parallel()
			p := redistest.StartFaultProxy(t, server.Addr)
			said := subscribe(t, newClient(t, p.URL(), short, 8), t.Name())
			wantSaid(t, said, "subscribed")
			p.AnswerOpen(reply) // to the next PING
			wantSaid(t, said, "subscribed")
			wantHears(t, said, server, t.Name())
		})
	}
	t.Run("another connection has the fault", func(t *testing.T) {
		t.Parallel()
		other := redistest.Start(t)
		p := redistest.StartFaultProxy(t, server.Addr)
		c := newClient(t, p.URL(), time.Minute, 8) // so the subscription is silent for a minute
		said := subscribe(t, c, "moved")
		wantSaid(t, said, "subscribed")
		if err := ping(c); err != nil {
			t.Fatal(err)
		}
		p.SwitchTo(other.Addr)
		p.AnswerOpen(faultReplies[0])
		if err := ping(c); err == nil {
			t.Fatal("no error")
		}
		wantSaid(t, said, "subscribed")
		wantHears(t, said, other, "moved")
	})
}

func wantSaid(t testing.TB, said <-chan string, want string) {
	t.Helper()
	if got := testkit.Receive(t, want, said); got != want {
		t.Fatalf("%q came, want %q", got, want)
	}
}

// wantHears waits until a message arrives. Where Redis is slow to answer a PING, the subscription may be
// made once more, and does not hear what is said meanwhile.
func wantHears(t testing.TB, said <-chan string, server *redistest.Server, channel string) {
	t.Helper()
	testkit.Eventually(t, "a message arrives", func() bool {
		server.Do("PUBLISH", channel, "hello")
		select {
		case got := <-said:
			return got == "hello"
		case <-time.After(100 * time.Millisecond):
			return false
		}
	})
}

// TestSilentSubscriptionIsMadeAnew checks that a connection on which nothing comes any more, not
// even an answer to PING, is given up.
func TestSilentSubscriptionIsMadeAnew(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	p := redistest.StartFaultProxy(t, server.Addr)
	said := subscribe(t, newClient(t, p.URL(), short, 8), "changes")
	wantSaid(t, said, "subscribed")
	p.OnCommand(func(redistest.Command) redistest.Fate { p.OnCommand(nil); return redistest.Drop })
	wantSaid(t, said, "subscribed")
}

// TestSentinelConnectionIsRenewed checks that a Sentinel is asked again on a new connection when
// the old one is no longer logged in.
func TestSentinelConnectionIsRenewed(t *testing.T) {
	t.Parallel()
	p := redistest.StartFaultProxy(t, redistest.StartSentinel(t, "").Sentinels[0].Addr)
	location := redisurl.Location{Hosts: []string{p.Addr}, Master: "main"}
	f := newFailover(location, clientOptions(locationOptions(location), nil, patient, 8), nil, patient)
	defer f.close()
	if _, err := f.findMaster(ctx); err != nil {
		t.Fatal(err)
	}
	p.AnswerOpen("NOAUTH Authentication required.")
	f.setMaster(masterReport{}) // else it would be where it was
	if _, err := f.findMaster(ctx); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Fatalf("error %v, want NOAUTH", err)
	}
	if _, err := f.findMaster(ctx); err != nil {
		t.Errorf("the next time: %v", err)
	}
}
