package record

import (
	"testing"
	"time"

	"metergate/quota"
)

// TestTooOldIsWhatALongerKeepWouldLeave: windows of minutes end soon whatever Keep is, so they are not among them.
func TestTooOldIsWhatALongerKeepWouldLeave(t *testing.T) {
	at := time.Date(2026, time.November, 17, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	a := Account{
		Name:    "u",
		Windows: []Window{{ID: "2025-01"}, {ID: "2025-10-30"}, {ID: "2026-10"}, {ID: "2026-11-17T09:00"}},
		Audit:   []Entry{{At: at.Add(-399 * day)}, {At: at.Add(-401 * day)}},
	}
	for _, c := range []struct {
		keep time.Duration
		want Aged
	}{
		{400 * day, Aged{Windows: 1, AuditEntries: 1}},
		{30 * day, Aged{Windows: 2, AuditEntries: 2}},
		{800 * day, Aged{}},
	} {
		got, err := View{Calendar: quota.NewCalendar(nil), Keep: c.keep}.tooOld(a, at)
		if err != nil || got != c.want {
			t.Errorf("with %v: %+v (error %v), want %+v", c.keep, got, err, c.want)
		}
	}
}
