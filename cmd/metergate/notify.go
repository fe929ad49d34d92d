package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"metergate/quota"
	"metergate/quota/notify"
)

// notifyReceiver sends a test event.
func notifyReceiver(c *console) error {
	f := c.flags()
	file := configFlag(f)
	test := f.Bool("test", false, "send one signed event of the type usage.test to notify.url, and say what comes back")
	if _, err := c.parse(f); err != nil {
		return err
	}
	if !*test {
		return c.usageError("needs -test, which sends a test event; the gateway sends the others by itself")
	}
	cfg, err := loadOnly(*file, "notify", "timezone")
	if err != nil {
		return err
	}
	if cfg.Notify == nil {
		return errUsage(fmt.Sprintf("%s: has no notify, so there is no receiver to test; docs/notifications.md explains the key", *file))
	}
	receiver, err := notify.NewReceiver(cfg.Notify.URL, cfg.Notify.SigningSecrets())
	if err != nil {
		return err
	}
	id := make([]byte, 8)
	rand.Read(id) // never fails
	threshold, now := cfg.Notify.At[0], time.Now()
	event := notify.NewTestEvent(quota.Crossing{
		ID: "msg_test_" + hex.EncodeToString(id), Account: "test", At: now, Plan: "test", Limit: "month", Unit: "requests",
		Used: int64(threshold), Allowance: 100, Threshold: threshold, ResetsAt: quota.NewCalendar(cfg.Timezone).WindowAt(quota.Month, now).End,
	})
	shown, _, _ := strings.Cut(cfg.Notify.URL, "?") // a query may hold a key
	answer, err := receiver.Post(context.Background(), event)
	if err != nil {
		said, _, _ := strings.Cut(strings.TrimSpace(answer.Body), "\n")
		if said != "" {
			err = fmt.Errorf("%w and says %.200q", err, said)
		}
		if answer.IsUnauthorized() {
			err = fmt.Errorf("%w; check that the receiver has the same secret as notify.secret", err)
		}
		return fmt.Errorf("%s: %w", shown, err)
	}
	fmt.Fprintf(c.stdout, "%s answered %s after %v; the event was %s\n", shown, answer.Status, answer.Took.Round(time.Millisecond), event.ID)
	return nil
}
