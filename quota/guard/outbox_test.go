package guard

import (
	"testing"
	"time"

	"metergate/quota"
)

func TestOutboxBoundsReleases(t *testing.T) {
	var o outbox
	r := &quota.Reservation{Request: quota.Request{ID: "r", User: "u"}}
	for range maxReleases {
		if !o.addRelease(r, time.Time{}) {
			t.Fatal("a release is refused below the bound")
		}
	}
	if o.addRelease(r, time.Time{}) {
		t.Errorf("more than %d releases wait", maxReleases)
	}
	if n := len(o.takeReleases()); n != maxReleases {
		t.Errorf("takeReleases returns %d, want %d", n, maxReleases)
	}
	if !o.addRelease(r, time.Time{}) {
		t.Error("a release is refused after all were taken")
	}
}

func TestOutboxBoundsCommits(t *testing.T) {
	var o outbox
	r := &quota.Reservation{Request: quota.Request{ID: "r", User: "u"}}
	for range maxCommits {
		if !o.addCommit(&settlement{Reservation: *r}) {
			t.Fatal("a commit is refused below the bound")
		}
	}
	if o.addCommit(&settlement{Reservation: *r}) {
		t.Errorf("more than %d commits wait", maxCommits)
	}
	if n := len(o.userCommits("u")); n != MaxReplay {
		t.Errorf("userCommits returns %d, want %d", n, MaxReplay)
	}
	o.removeCommits("u", MaxReplay)
	for range MaxReplay {
		if !o.addCommit(&settlement{Reservation: *r}) {
			t.Fatal("a commit is refused after others were removed")
		}
	}
	if o.addCommit(&settlement{Reservation: *r}) {
		t.Errorf("more than %d commits wait after a removal", maxCommits)
	}
}

func TestOutboxReturnsReplayedWhenDue(t *testing.T) {
	var o outbox
	noon := time.Date(2026, time.November, 17, 12, 0, 0, 0, time.UTC)
	o.addReplayed(make([]settlement, 2), noon)
	o.addReplayed(make([]settlement, 3), noon.Add(time.Second))
	for _, step := range []struct {
		at   time.Duration
		want int
	}{{-1, 0}, {0, 2}, {0, 0}, {time.Second - 1, 0}, {time.Second, 3}, {time.Hour, 0}} {
		if n := len(o.takeForgettable(noon.Add(step.at))); n != step.want {
			t.Errorf("at +%v, %d are due, want %d", step.at, n, step.want)
		}
	}
}
