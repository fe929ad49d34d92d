package upgrading

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// script writes a program that an upgrade starts instead of a gateway.
func (s *succession) script(name, text string) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		s.Fatal(err)
	}
	return path
}

// touchListeners has both listeners accept one connection.
func (s *succession) touchListeners() {
	s.Helper()
	for _, url := range []string{s.url, s.admin} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			s.Fatal(err)
		}
		conn.Write([]byte("GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
		if n, err := conn.Read(make([]byte, 100)); n == 0 {
			s.Fatal(err)
		}
		conn.Close()
	}
}

// Each listener accepts one connection during an upgrade, and then nobody connects. The old process still
// stops accepting at once: the sockets that it shares with its successor do not block.
func TestUpgradeInSilence(t *testing.T) {
	for name, store := range map[string]func(*testing.T) string{
		"Redis":    func(t *testing.T) string { return redistest.Start(t).URL() },
		"embedded": func(*testing.T) string { return "embedded:data" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSuccession(t, store(t), gatewaytest.StartUpstream(t, "ok").URL, "")
			first := s.pid()
			// The upgrade fails.
			s.install(s.script("fails", "exit 7\n"))
			s.signal(first, syscall.SIGUSR2)
			s.await("the upgrade failed", 1)
			s.touchListeners()
			// The successor takes its time.
			started, goOn := filepath.Join(s.dir, "started"), filepath.Join(s.dir, "go-on")
			s.install(s.script("slow", fmt.Sprintf("touch %s\nwhile [ ! -e %s ]; do sleep 0.02; done\nexec %s \"$@\"\n", started, goOn, gatewaytest.Program())))
			s.signal(first, syscall.SIGUSR2)
			testkit.Eventually(t, "the successor has begun", func() bool { _, err := os.Stat(started); return err == nil })
			s.touchListeners()
			testkit.WriteFile(t, goOn, "")
			next := s.awaitNext()
			s.awaitEnd(first)
			// Another upgrade fails, and the process stops.
			testkit.WriteFile(t, filepath.Join(s.dir, "gateway.yaml"), "listen: nowhere\n")
			s.signal(next, syscall.SIGUSR2)
			s.await("the upgrade failed", 2)
			s.touchListeners()
			s.signal(next, syscall.SIGTERM)
			s.awaitEnd(next)
		})
	}
}

// After an upgrade, the old process finishes its requests, also when it gets a SIGTERM, and it refuses to
// reload or to upgrade. With Redis, its successor refuses a second upgrade meanwhile. With the embedded store
// no successor serves yet, and the SIGTERM ends the upgrade.
func TestUpgradeFinishesRequestsDespiteSignals(t *testing.T) {
	for name, store := range map[string]func(*testing.T) string{
		"Redis":    func(t *testing.T) string { return redistest.Start(t).URL() },
		"embedded": func(*testing.T) string { return "embedded:data" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun, finish := make(chan bool, 1), make(chan bool)
			upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				begun <- true
				<-finish
			}))
			t.Cleanup(upstream.Close)
			release := sync.OnceFunc(func() { close(finish) })
			t.Cleanup(release)
			s := startSuccession(t, store(t), upstream.URL, "")
			first, status := s.pid(), make(chan int, 1)
			go func() {
				client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				status <- gatewaytest.Post(client, s.url+"/api/analyze", testkit.Token("u", "free"))
			}()
			testkit.Receive(t, "the request", begun)
			s.signal(first, syscall.SIGUSR2)
			if name == "embedded" {
				s.await("the new process waits for the store", 1)
				s.signal(first, syscall.SIGTERM)
				s.await("the upgrade has ended", 1)
			} else {
				next := s.awaitNext()
				s.await("the new process serves", 1)
				s.signal(first, syscall.SIGTERM)
				s.await("this process finishes its requests already", 1)
				s.signal(first, syscall.SIGUSR2)
				s.await("this process is stopping; no upgrade", 1)
				s.signal(first, syscall.SIGHUP)
				s.await("this process is stopping; no reload", 1)
				s.signal(next, syscall.SIGUSR2)
				s.await(fmt.Sprintf("the process before (pid %d) still finishes its requests; try again when it has ended", first), 1)
			}
			release()
			if got := testkit.Receive(t, "the response", status); got != 200 {
				t.Errorf("status %d, want 200", got)
			}
			s.awaitEnd(first)
			if name == "embedded" {
				if n := len(s.serving()); n != 1 {
					t.Errorf("%d processes have served, want 1", n)
				}
				return
			}
			next := s.pid()
			s.signal(next, syscall.SIGUSR2)
			s.awaitNext()
			s.awaitEnd(next)
		})
	}
}
