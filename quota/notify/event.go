package notify

import (
	"encoding/json"
	"time"

	"metergate/quota"
)

// The types of events.
const (
	typeThreshold = "usage.threshold"
	typeTest      = "usage.test"
)

// An Event is a message to the receiver.
type Event struct {
	ID   string // the webhook-id; the same whenever the event is sent
	body []byte
}

// message is the body of an event.
type message struct {
	Type      string    `json:"type"`
	Timestamp timestamp `json:"timestamp"`
	Data      data      `json:"data"`
}

type data struct {
	User        *string    `json:"user"` // null: the limit is shared by an organisation
	Org         *string    `json:"org"`
	Plan        string     `json:"plan"`
	Limit       string     `json:"limit"`
	Unit        string     `json:"unit"`
	Used        int64      `json:"used"`
	LimitAmount int64      `json:"limit_amount"`
	Percent     int64      `json:"percent"`
	Threshold   int        `json:"threshold"`
	ResetsAt    *time.Time `json:"resets_at"` // null: never
}

// A timestamp is written with milliseconds, in UTC.
type timestamp time.Time

func (t timestamp) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Time(t).UTC().Format("2006-01-02T15:04:05.000Z"))
}

// eventOf returns the event of a crossing.
func eventOf(c quota.Crossing) Event { return newEvent(typeThreshold, c) }

// NewTestEvent returns an event that means nothing: that of a crossing, but of another type.
func NewTestEvent(c quota.Crossing) Event { return newEvent(typeTest, c) }

func newEvent(kind string, c quota.Crossing) Event {
	d := data{Plan: c.Plan, Limit: c.Limit, Unit: c.Unit, Used: c.Used, LimitAmount: c.Allowance, Percent: c.Percent(), Threshold: c.Threshold}
	org, user := quota.SplitAccount(c.Account)
	d.Org, d.User = textOrNull(org), textOrNull(user)
	if !c.ResetsAt.IsZero() {
		d.ResetsAt = new(c.ResetsAt.UTC())
	}
	body, err := json.Marshal(message{kind, timestamp(c.At), d})
	if err != nil {
		panic("notify: " + err.Error()) // texts and numbers can always be written
	}
	return Event{c.ID, body}
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
