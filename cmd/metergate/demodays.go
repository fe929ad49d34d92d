package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"metergate/cmd/metergate/app"
	"metergate/config"
	"metergate/quota"
	"metergate/quota/guard"
)

// sampleDays is how many days before today get sample requests.
const sampleDays = 29

// weekdayUse is how many requests the users of the demo make on each weekday, from Sunday on.
var weekdayUse = [...]int{1, 4, 5, 6, 5, 4, 1}

// addSampleDays counts made-up requests of the demo's users on the days before today, so that their
// charts have more than one bar. They count in the history alone, for no limit. A user who has used something
// before today gets none.
func addSampleDays(store *guard.Store, cfg *config.Config, users []demoUser) error {
	plans, err := app.Plans(cfg)
	if err != nil {
		return err
	}
	ctx := context.Background()
	var group errgroup.Group
	group.SetLimit(256) // the store writes what comes at the same time at once
	for i, u := range users {
		h, err := store.History(ctx, u.name, sampleDays+1)
		if err != nil {
			return fmt.Errorf("reading the history of %s: %w", u.name, err)
		}
		past := h.Days[:sampleDays]
		if hasUse(past) {
			continue
		}
		// The same numbers at each start.
		random := rand.New(rand.NewPCG(uint64(i), 2026))
		for d, day := range past {
			weekday := h.At.AddDate(0, 0, d-sampleDays).Weekday()
			for range random.IntN(weekdayUse[weekday] * u.samples) {
				r := sampleRequest(u, day.Date, random)
				r.Plans = plans[u.plan].OnlyChoice()
				group.Go(func() error {
					_, err := store.Commit(ctx, r)
					return err
				})
			}
		}
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("counting sample requests: %w", err)
	}
	return nil
}

// hasUse reports whether something was used on one of the days.
func hasUse(days []quota.DayUsage) bool {
	for _, d := range days {
		if len(d.Endpoints) > 0 {
			return true
		}
	}
	return false
}

// sampleRequest makes a request of a user on a past day, admitted in no window: no counter of a limit
// changes.
func sampleRequest(u demoUser, date quota.Date, random *rand.Rand) *quota.Reservation {
	// Some endpoints are used more than others.
	endpoints := []string{"analyze", "analyze", "analyze", "report", "report", "redact", "drill", "image-analysis", "chat"}
	endpoint := endpoints[random.IntN(len(endpoints))]
	units := int64(1)
	switch endpoint { // what demo.yaml charges
	case "image-analysis":
		units = 5
	case "chat":
		units = 2 + random.Int64N(8)
	}
	return &quota.Reservation{
		Request: quota.Request{ID: quota.NewID(), User: u.name, Endpoint: endpoint, Units: units, Lease: time.Minute},
		Date:    date,
	}
}
