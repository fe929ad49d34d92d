package notify

import (
	"strings"
	"testing"
	"time"

	"metergate/quota"
)

func (t *timestamp) UnmarshalJSON(text []byte) error {
	at, err := time.Parse(time.RFC3339, strings.Trim(string(text), `"`))
	*t = timestamp(at)
	return err
}

// The body is a public format: see docs/notifications.md.
func TestEventsHaveTheirBody(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	c := quota.Crossing{
		ID: "msg_1", Account: "u-17", At: time.Date(2026, 11, 30, 13, 0, 0, 7_000_000, berlin), Plan: "free", Limit: "month", Unit: "requests",
		Used: 81, Allowance: 100, Threshold: 80, ResetsAt: time.Date(2026, 12, 1, 0, 0, 0, 0, berlin),
	}
	const rest = `,"plan":"free","limit":"month","unit":"requests","used":81,"limit_amount":100,"percent":81,"threshold":80,"resets_at":"2026-11-30T23:00:00Z"}}`
	for account, ids := range map[string]string{
		"u-17":                               `"user":"u-17","org":null`,
		quota.MemberAccount("acme", `"<ü>"`): `"user":"\"\u003cü\u003e\"","org":"acme"`,
		quota.PoolAccount("acme"):            `"user":null,"org":"acme"`,
	} {
		c.Account = account
		want := `{"type":"usage.threshold","timestamp":"2026-11-30T12:00:00.007Z","data":{` + ids + rest
		if e := eventOf(c); string(e.body) != want || e.ID != "msg_1" {
			t.Errorf("got  %s\nwant %s", e.body, want)
		}
	}
	c.ResetsAt = time.Time{}
	if e := NewTestEvent(c); !strings.Contains(string(e.body), `{"type":"usage.test",`) || !strings.HasSuffix(string(e.body), `"resets_at":null}}`) {
		t.Errorf("got %s", e.body)
	}
}
