// Package testkit holds the few helpers that tests all over the tree share: waiting for
// a condition, free addresses, files and tokens. It imports no other package of this
// module, so that every package can use it. Only tests and packages of test helpers may
// import it.
package testkit

import (
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Patience is how long [Eventually] and [Receive] wait. It only has to be long enough
// for a busy machine: a test that passes does not wait for it to end.
const Patience = 30 * time.Second

// pollInterval is how often a condition is checked.
const pollInterval = 5 * time.Millisecond

// Eventually waits until reached returns true, for a condition that other goroutines or
// processes bring about. It fails the test after [Patience]; what names the condition
// in the failure message, such as "nothing is held".
func Eventually(t testing.TB, what string, reached func() bool) {
	t.Helper()
	EventuallyWithin(t, Patience, what, reached)
}

// EventuallyWithin is [Eventually] with a limit of its own, for conditions that may
// take longer, such as the end of a lease.
func EventuallyWithin(t testing.TB, limit time.Duration, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !reached(); time.Sleep(pollInterval) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// Receive returns the next value of a channel, or the zero value once the channel is
// closed. It fails the test after [Patience].
func Receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(Patience):
		t.Fatalf("not within %v: %s", Patience, what)
		panic("unreachable")
	}
}

// Log is a log that is shown when the test fails. It ends with the test: what a timer writes after
// that would make the process panic.
func Log(t testing.TB) *slog.Logger {
	w := &testOutput{to: t.Output()}
	t.Cleanup(w.end)
	return slog.New(slog.NewTextHandler(w, nil))
}

type testOutput struct {
	mu sync.Mutex
	to io.Writer
}

func (w *testOutput) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

func (w *testOutput) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = io.Discard
}

// The ports of [FreeAddress]. Linux gives ports from 32768 to outgoing connections, of which
// tests that run beside this one may make thousands: such a port could be taken before a server
// listens on it, or while it restarts. A node of a Redis Cluster also needs the port 10000 above.
const firstPort, ports = 11_000, 11_000

var nextPort atomic.Int64

func init() { nextPort.Store(rand.Int64N(ports)) }

// FreeAddress returns a HOST:PORT of the loopback interface on which nothing listens, and gives
// it only once. A test of another package could take the port before the caller does, but that
// is unlikely.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range ports {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+nextPort.Add(1)%ports)
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatalf("no port is free from %d to %d", firstPort, firstPort+ports-1)
	return ""
}

// WriteFile writes a file that only its owner can read.
func WriteFile[T ~string | ~[]byte](t testing.TB, path string, data T) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// LastLines returns the last n lines of a text.
func LastLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Secret is the HS256 key that signs the tests' tokens.
const Secret = "a secret that is long enough for HS256"

// Token signs a token with [Secret] that is valid for an hour. Without a plan, the
// token has no plan claim.
func Token(user, plan string) string { return MemberToken("", user, plan) }

// MemberToken is Token for a member of an organisation, which is in the claim org.
func MemberToken(org, user, plan string) string {
	claims := jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix()}
	if org != "" {
		claims["org"] = org
	}
	if plan != "" {
		claims["plan"] = plan
	}
	return SignedToken(claims)
}

// SignedToken signs a token with [Secret] and these claims.
func SignedToken(claims jwt.MapClaims) string {
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(Secret))
	if err != nil {
		panic(err) // HMAC takes every key
	}
	return signed
}

// ReadFile reads a file of this module; path is relative to the module's root.
func ReadFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(ModuleRoot(t), path))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// DependOn tells the go command that a test depends on all files below folders of the module.
// It takes a cached result otherwise when only a program that the test starts has read or
// compiled them.
func DependOn(t testing.TB, folders ...string) {
	t.Helper()
	for _, folder := range folders {
		// The go command records which folders a test reads, and later compares what is in them.
		err := filepath.WalkDir(filepath.Join(ModuleRoot(t), folder), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && d.Name() == "node_modules" {
				return fs.SkipDir
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// ModuleRoot is the folder of this module's go.mod.
func ModuleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = filepath.Dir(dir)
	}
}
