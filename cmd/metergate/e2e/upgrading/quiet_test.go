package upgrading

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
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
