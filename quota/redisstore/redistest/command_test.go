package redistest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
)

// TestScriptNamesWhatTheStoreRuns has a store run each script twice: the first time it sends
// the source of a script, afterwards only its SHA-1.
func TestScriptNamesWhatTheStoreRuns(t *testing.T) {
	server := Start(t)
	server.Needs(t, "7.0", "functions")
	c := StartFaultProxy(t, server.Addr)
	s, err := redisstore.Open(redisstore.Options{URL: c.URL(), Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var mu sync.Mutex
	var seen []string
	c.OnCommand(func(cmd Command) Fate {
		if name := strings.ToLower(cmd[0]); strings.HasPrefix(name, "eval") || name == "fcall" {
			mu.Lock()
			seen = append(seen, strings.ToLower(cmd[0])+" "+cmd.Script())
			mu.Unlock()
		} else if name := cmd.Script(); name != "" {
			t.Errorf("%v is taken for the script %s", cmd, name)
		}
		return Pass
	})
	ctx := context.Background()
	terms := quotatest.NewPlan("p", quota.Limit{Amount: 10, Period: quota.Month}).OnlyChoice()
	reserve := func() *quota.Reservation {
		d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: terms, Lease: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return &d.Reservation
	}
	for range 2 {
		_, errCommit := s.Commit(ctx, reserve())
		_, errRelease := s.Release(ctx, reserve())
		errReplay := s.Replay(ctx, "u", []quota.Reservation{*reserve()}, nil)
		twoSteps := reserve()
		twoSteps.Unused, twoSteps.Rest = 1, 1
		_, errFirst := s.Commit(ctx, twoSteps)
		_, errSecond := s.CommitRest(ctx, twoSteps)
		_, errRead := s.Read(ctx, "u", terms)
		_, errChange := s.ApplyChange(ctx, "u", terms, quota.Change{Action: quota.ActionReset})
		if err := errors.Join(errCommit, errRelease, errReplay, errFirst, errSecond, errRead, errChange); err != nil {
			t.Fatal(err)
		}
	}
	once := []string{
		"evalsha reserve", "evalsha commit", "fcall reserve", "evalsha release", "fcall reserve", "evalsha commit",
		"fcall reserve", "evalsha commit", "evalsha commit-rest", "evalsha read", "evalsha change", "evalsha read", // a change reads afterwards
	}
	// The reset has made the next request rare, which the function is the first to see.
	want := slices.Concat(once, []string{"fcall reserve"}, once)
	for _, name := range []string{"reserve", "commit", "read", "change"} { // those that Redis has to learn
		i := slices.Index(want, "evalsha "+name)
		want = slices.Insert(want, i+1, "eval "+name)
	}
	first := slices.Index(want, "evalsha commit-rest") - 1 // a commit that leaves a rest is another script
	want = slices.Insert(want, first+1, "eval commit")
	mu.Lock()
	defer mu.Unlock()
	// By way of go-redis, a script that Redis does not know is tried by its SHA-1 first.
	got := slices.Compact(seen)
	if diff := cmp.Diff(slices.Compact(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := (Command{"hdel", "key", "field"}).Script(); got != "" {
		t.Errorf("HDEL is the script %q", got)
	}
	if got := (Command)(nil).Script(); got != "" {
		t.Errorf("nothing is the script %q", got)
	}
	if got := (Command{"evalsha", strings.Repeat("0", 40), "1", "key"}).Script(); got != "" {
		t.Errorf("an unknown script is %q", got)
	}
}
