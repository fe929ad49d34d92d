package redisclient

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/redisurl"
	"metergate/quota/redisstore/resp"
)

var ctx = context.Background()

const (
	// patient is a timeout that no working Redis needs, however busy the machine.
	patient = 20 * time.Second
	// short is a timeout that is meant to pass.
	short = 500 * time.Millisecond
	// bound is longer than a call may take with short, however busy the machine.
	bound = 20 * time.Second
)

// echo is a script that returns its argument, a number.
var echo = redis.NewScript("return {tonumber(ARGV[1])}")

// newClient returns a client for the time of a test.
func newClient(t testing.TB, url string, timeout time.Duration, inFlight int) *Client {
	t.Helper()
	return newClientWith(t, url, Options{Timeout: timeout, InFlight: inFlight, Now: time.Now})
}

// newClientWith returns a client with options, in which it sets the location.
func newClientWith(t testing.TB, url string, opt Options) *Client {
	t.Helper()
	var err error
	if opt.Location, err = redisurl.Parse(url); err != nil {
		t.Fatal(err)
	}
	c := New(opt)
	t.Cleanup(func() {
		select {
		case <-c.stopped: // closed by the test
		default:
			c.Close()
		}
	})
	return c
}

// callEcho runs echo.
func callEcho(ctx context.Context, c *Client, n int64) (int64, error) {
	var args resp.Args
	args.AddInt(n)
	var reply Reply
	err := c.Run(ctx, echo, "key:{1}", "", &args, &reply)
	if err != nil {
		return 0, err
	}
	if len(reply.Numbers) != 1 {
		return 0, errors.New("the reply has not one number")
	}
	return reply.Numbers[0], nil
}

// mustEcho runs echo where nothing is in the way.
func mustEcho(t testing.TB, c *Client) {
	t.Helper()
	if n, err := callEcho(ctx, c, 7); err != nil || n != 7 {
		t.Fatalf("the script returned %d, error %v, want 7", n, err)
	}
}

// isScript reports whether a command runs a script that Redis knows.
func isScript(cmd redistest.Command) bool {
	return len(cmd) > 0 && strings.EqualFold(cmd[0], "evalsha")
}

func TestCloseEndsCallsUnderWay(t *testing.T) {
	t.Parallel()
	faultProxy := redistest.StartFaultProxy(t, redistest.Start(t).Addr)
	c := newClient(t, faultProxy.URL(), time.Minute, 32)
	mustEcho(t, c)
	sent := make(chan bool, 1)
	faultProxy.OnReply(func(redistest.Command, string) redistest.Fate { sent <- true; return redistest.Drop })
	done := make(chan error)
	go func() { _, err := callEcho(ctx, c, 1); done <- err }()
	<-sent
	c.Close()
	if err := <-done; !errors.Is(err, errClosed) {
		t.Errorf("a call under way ends with %v, want %v", err, errClosed)
	}
	if _, err := callEcho(ctx, c, 1); !errors.Is(err, errClosed) {
		t.Errorf("a call after Close: %v, want %v", err, errClosed)
	}
}
