package plancheck

import (
	"strings"
	"testing"

	"metergate/quota"
)

func TestChangesThatAreWrongSayWhere(t *testing.T) {
	plans := map[string]*quota.Plan{}
	for name, limits := range map[string][]quota.Limit{
		"free": {{Amount: 100, Period: quota.Month}, {Amount: 9, Period: quota.Day, Carry: 3}},
		"open": nil,
	} {
		p, err := quota.NewPlan(quota.PlanOptions{Name: name, Limits: limits, WarnAt: 80})
		if err != nil {
			t.Fatal(err)
		}
		plans[name] = p
	}
	for text, want := range map[string]string{
		"":                                "write PLAN/LIMIT=NUMBER",
		"free":                            "write PLAN/LIMIT=NUMBER",
		"/month=1":                        "write PLAN/LIMIT=NUMBER",
		"free/month=":                     "free/month: must be a whole number from 0 to 1000000000000",
		"free/month=-1":                   `must be a whole number from 0 to 1000000000000, got "-1"`,
		"free/month=1e3":                  "must be a whole number",
		"free/month=+1":                   "must be a whole number",
		"free/month=99999999999999999999": "must be a whole number",
		"gold/month=1":                    `there is no plan "gold"; the plans are free, open`,
		"free/year=1":                     `the plan free has no limit "year"; the limits are month, day`,
		"free/concurrent=1":               "concurrent says nothing about what users have used",
		"open/month=1":                    "the plan open has no limits",
		"free/day=0":                      "nothing of a limit of 0 can be carried",
	} {
		c, err := ParseChange(text)
		if err == nil {
			_, err = Apply(plans, []Change{c})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
	twice := []Change{{"free", "month", 1}, {"free", "month", 2}}
	if _, err := Apply(plans, twice); err == nil || !strings.Contains(err.Error(), "free/month=2: the limit is given twice") {
		t.Error(err)
	}
	changed, err := Apply(plans, []Change{{"free", "month", 7}})
	if err != nil || changed["free"].Limits()[0].Amount != 7 || changed["free"].Limits()[1] != plans["free"].Limits()[1] || plans["free"].Limits()[0].Amount != 100 {
		t.Errorf("%v, error %v", changed, err)
	}
}
