package main

import (
	"context"
	"log/slog"
	"reflect"
	"testing"

	"metergate/cmd/metergate/app"
	"metergate/quota"
)

// Sample days are in the history of each user, once, and count for no limit.
func TestSampleDaysCountForNoLimit(t *testing.T) {
	cfg, err := demoConfig("127.0.0.1:0", t.TempDir(), "http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	a := newApp(app.Options{Config: cfg, Log: slog.New(slog.DiscardHandler)})
	if err := a.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer a.Stop()
	plans, err := app.Plans(cfg)
	if err != nil {
		t.Fatal(err)
	}
	first := map[string][]quota.DayUsage{}
	for range 2 {
		if err := addSampleDays(a.Store(), cfg, demoUsers); err != nil {
			t.Fatal(err)
		}
		for _, u := range demoUsers {
			h, err := a.Store().History(context.Background(), u.name, sampleDays+1)
			if err != nil {
				t.Fatal(err)
			}
			used := 0
			for _, d := range h.Days {
				if d.Total() != (quota.Used{}) {
					used++
				}
			}
			if today := h.Days[sampleDays]; used < sampleDays/2 || today.Total() != (quota.Used{}) {
				t.Errorf("%s has used something on %d days, and %v today", u.name, used, today.Total())
			}
			if first[u.name] == nil {
				first[u.name] = h.Days
			} else if !reflect.DeepEqual(h.Days, first[u.name]) {
				t.Errorf("%s: the second call changed the history", u.name)
			}
			s, err := a.Store().Read(context.Background(), u.name, plans[u.plan].OnlyChoice())
			if err != nil || s.Total.Used != 0 {
				t.Errorf("%s has used %d of the limit, error %v", u.name, s.Total.Used, err)
			}
		}
	}
}
