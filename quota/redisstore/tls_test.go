package redisstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// TestSuiteOverTLS runs the suite with a client certificate, in the older protocol.
func TestSuiteOverTLS(t *testing.T) {
	a := redistest.NewAuthority(t)
	server := redistest.StartTLS(t, a)
	quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
		return openWith(t, Options{
			URL: server.URL(), TLS: a.ClientTLS(a.Client), Protocol: 2, Prefix: "test-" + quota.NewID(), Timeout: patient,
			Calendar: calendar, Now: clock.Now, Offset: clock.Offset,
		})
	})
}

// useStore reserves and settles for users on all masters.
func useStore(t testing.TB, s *Store) {
	t.Helper()
	for i := range 30 {
		r := mustReserve(t, s, fmt.Sprint("user-", i))
		if _, err := s.Commit(ctx, &r); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFunctionsOverTLS checks that functions serve plain requests over TLS as well, and that a new connection after a
// break can call them at once.
func TestFunctionsOverTLS(t *testing.T) {
	a := redistest.NewAuthority(t)
	server := redistest.StartTLS(t, a)
	server.Needs(t, "7.0", "functions")
	s := openWith(t, Options{URL: server.URL(), TLS: a.ClientTLS(a.Client), Timeout: patient})
	useStore(t, s)
	useStore(t, s) // a script finds that these users are plain: they have counts now
	for _, when := range []string{"on the first connection", "on a new connection"} {
		if got := allCommandsOf(t, server, func() { useStore(t, s) }); got["fcall"] != 60 || got["evalsha"] != 0 {
			t.Errorf("%s: %v, want 60 calls of functions and none of scripts", when, got)
		}
		server.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		testkit.Eventually(t, "a new connection answers", func() bool {
			_, err := s.Reserve(ctx, newRequest("another"))
			return err == nil
		})
	}
}

func TestClusterOverTLS(t *testing.T) {
	a := redistest.NewAuthority(t)
	c := redistest.StartTLSCluster(t, a)
	useStore(t, openWith(t, Options{URL: c.URL(), TLS: a.ClientTLS(a.Client), Timeout: patient}))
}

func TestSentinelOverTLS(t *testing.T) {
	a := redistest.NewAuthority(t)
	g := redistest.StartTLSSentinel(t, a, "secret")
	s := openWith(t, Options{URL: g.URL(), TLS: a.ClientTLS(a.Client), Timeout: patient})
	useStore(t, s)
	g.Failover()
	// A call that is under way when the store leaves the old master fails: it is unknown whether it was made.
	testkit.Eventually(t, "the new master answers", func() bool {
		_, err := s.Reserve(ctx, newRequest("user-0"))
		return err == nil
	})
	useStore(t, s)
}

// TestSetTLSIsForNewConnections checks that open connections stay when a certificate is replaced,
// and that the next ones use the new one.
func TestSetTLSIsForNewConnections(t *testing.T) {
	a, other := redistest.NewAuthority(t), redistest.NewAuthority(t)
	server := redistest.StartTLS(t, a)
	s := openWith(t, Options{URL: server.URL(), TLS: a.ClientTLS(a.Client), Timeout: patient})
	mustReserve(t, s, "u")
	s.SetTLS(other.ClientTLS(a.Client))
	mustReserve(t, s, "u")
	server.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	testkit.Eventually(t, "a new connection trusts only the other authority", func() bool {
		_, err := s.Reserve(ctx, newRequest("u"))
		return err != nil && strings.Contains(err.Error(), "signed by unknown authority")
	})
	s.SetTLS(a.ClientTLS(a.Client))
	mustReserve(t, s, "u")
}

// TestTLSFaultsSayWhatToDo checks what the log, validate -online and /readyz show.
func TestTLSFaultsSayWhatToDo(t *testing.T) {
	var (
		a       = redistest.NewAuthority(t)
		other   = redistest.NewAuthority(t)
		expired = a.Issue(time.Now().Add(-time.Hour), "127.0.0.1")
		server  = redistest.StartTLS(t, a)
		old     = redistest.StartTLS(t, a, "--tls-cert-file", expired.CertFile, "--tls-key-file", expired.KeyFile)
		before  = redistest.StartTLS(t, a, "--tls-protocols", "TLSv1.2")
		plain   = redistest.Start(t)
	)
	named := a.ClientTLS(a.Client)
	named.ServerName = "redis.internal"
	for _, test := range []struct {
		name, url string
		tls       *tls.Config
		want      string
	}{
		{"no settings", server.URL(), nil, "signed by unknown authority; if it is a private authority, give its certificate as store.tls.ca_file"},
		{"another authority", server.URL(), other.ClientTLS(a.Client), "store.tls.ca_file must have the certificate of its authority"},
		{"another name", server.URL(), named, "certificate is valid for localhost, not redis.internal; set store.tls.server_name to a name that the certificate has"},
		{"an expired certificate", old.URL(), a.ClientTLS(a.Client), "certificate has expired or is not yet valid"},
		{"no client certificate", server.URL(), a.ClientTLS(redistest.KeyFiles{}), "the server asks for a client certificate; give it as store.tls.cert_file and key_file"},
		{"no client certificate, TLS 1.2", before.URL(), a.ClientTLS(redistest.KeyFiles{}), "the server asks for a client certificate"},
		{"the client certificate of another authority", server.URL(), a.ClientTLS(other.Client), "the server refuses the client certificate in store.tls.cert_file"},
		{"an expired client certificate", server.URL(), a.ClientTLS(expired), "the server refuses the client certificate in store.tls.cert_file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := openWith(t, Options{URL: test.url, TLS: test.tls, Timeout: patient})
			wantTLSError(t, s, strings.TrimPrefix(test.url, "rediss://"), test.want)
		})
	}
	t.Run("a server without TLS", func(t *testing.T) {
		// It waits for the end of a command.
		s := openWith(t, Options{URL: "rediss://" + plain.Addr, Timeout: short})
		wantTLSError(t, s, plain.Addr, "the port does not speak TLS")
	})
	t.Run("TLS without the scheme", func(t *testing.T) {
		s := openWith(t, Options{URL: "redis://" + server.Addr, Timeout: patient})
		_, err := s.Reserve(ctx, newRequest("u"))
		for what, err := range map[string]error{"Check": s.Check(ctx), "Reserve": err} {
			if err == nil || !strings.Contains(err.Error(), server.Addr) || !strings.Contains(err.Error(), "if it speaks TLS, write rediss") {
				t.Errorf("%s: %v, want the address and what to write", what, err)
			}
		}
	})
}

// wantTLSError checks that all calls fail with an error that has an address and a text.
func wantTLSError(t testing.TB, s *Store, addr, want string) {
	t.Helper()
	_, err := s.Reserve(ctx, newRequest("u"))
	for what, err := range map[string]error{"Check": s.Check(ctx), "Reserve": err} {
		if tlsErr := (*redisclient.TLSError)(nil); !errors.As(err, &tlsErr) || tlsErr.Addr != addr || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a *redisclient.TLSError about %s with %q", what, err, addr, want)
		}
	}
}
