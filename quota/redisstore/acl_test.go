package redisstore_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A memory gets what a store keeps for the next process.
type memory chan []byte

func (m memory) LoadNote(string) ([]byte, error) { return nil, nil }
func (m memory) SaveNote(_ string, note []byte) error {
	select {
	case m <- note:
	default:
	}
	return nil
}

// TestACLOfTheManualIsTheLeast runs the suite as the Redis user that docs/operate.md creates. The
// user may do all that the store does, and no more: the store uses every command in the rule.
func TestACLOfTheManualIsTheLeast(t *testing.T) {
	text, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^ACL SETUSER metergate .*$`).Find(text)
	if line == nil {
		t.Fatal("docs/operate.md has no ACL SETUSER")
	}
	server := redistest.Start(t)
	server.Needs(t, "6.2", "ACL for channels")
	var args []any
	rule := strings.Replace(string(line), "PASSWORD", "secret", 1)
	if !server.Has("7.0") {
		rule = strings.Replace(rule, " +fcall +function|load", "", 1)
	}
	for word := range strings.FieldsSeq(rule) {
		args = append(args, word)
	}
	server.Do(args...)
	url := strings.Replace(server.URL(), "redis://", "redis://metergate:secret@", 1)
	t.Run("suite", func(t *testing.T) {
		quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
			s, err := redisstore.Open(redisstore.Options{
				URL: url, Prefix: "metergate:" + quota.NewID(), Timeout: patient, Calendar: calendar,
				Now:    clock.Now,
				Offset: clock.Offset,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		})
	})
	saved := make(memory, 1)
	s, err := redisstore.Open(redisstore.Options{URL: url, Timeout: patient, Memory: saved})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Probe(context.Background(), "u"); err != nil {
		t.Error("probe:", err)
	}
	if err := s.Check(context.Background()); err != nil {
		t.Error("ping:", err)
	}
	testkit.Receive(t, "the mark of the data is known", saved)
	deliverCrossing(t, s)
	stats := server.Do("INFO", "commandstats").(string)
	for _, word := range args {
		if command, ok := strings.CutPrefix(word.(string), "+"); ok && !strings.Contains(stats, "cmdstat_"+command+":") {
			t.Errorf("the store does not use %s", command)
		}
	}
	log := server.Do("ACL", "LOG").([]any)
	for _, entry := range log {
		t.Errorf("Redis refused: %v", entry)
	}
}

// deliverCrossing takes a count to a threshold, and does what delivers that.
func deliverCrossing(t *testing.T, s *redisstore.Store) {
	t.Helper()
	p, err := quota.NewPlan(quota.PlanOptions{Name: "p", Limits: []quota.Limit{{Amount: 1, Period: quota.Month}}, Endpoints: []string{"analyze"}, WarnAt: 80, NotifyAt: []int{100}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: p.OnlyChoice(), Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(ctx, &d.Reservation); err != nil {
		t.Fatal(err)
	}
	var claims quota.CrossingClaims
	testkit.Eventually(t, "the crossing can be claimed", func() bool {
		if claims, err = s.ClaimCrossings(ctx, 10); err != nil {
			t.Fatal(err)
		}
		return len(claims.Claims) == 1
	})
	crossings, err := s.CrossingsOf(ctx, "u")
	if err != nil || len(crossings) != 1 {
		t.Fatal(crossings, err)
	}
	if err := s.EndCrossings(ctx, "u", []string{crossings[0].ID}); err != nil {
		t.Error(err)
	}
	if err := s.EndClaim(ctx, claims.Claims[0], 0); err != nil {
		t.Error(err)
	}
}

// TestScriptsNeedNoMoreThanTheManual compares the commands in the scripts with the rule: the suite
// does not reach all of them.
func TestScriptsNeedNoMoreThanTheManual(t *testing.T) {
	text, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	rule := string(regexp.MustCompile(`(?m)^ACL SETUSER metergate .*$`).Find(text)) + " "
	files, err := filepath.Glob("script/*.lua")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range regexp.MustCompile(`call\('([A-Z]+)'`).FindAllSubmatch(source, -1) {
			if command := strings.ToLower(string(call[1])); !strings.Contains(rule, " +"+command+" ") {
				t.Errorf("%s calls %s, which the rule in docs/operate.md does not permit", file, command)
			}
		}
	}
}
