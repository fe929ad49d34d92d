package quota_test

import (
	"fmt"
	"testing"

	"metergate/quota"
)

func TestListNamesFitsNumberOfNames(t *testing.T) {
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf("p%02d", i))
	}
	for want, names := range map[string][]string{
		"there is no plan":        nil,
		"the only plan is free":   {"free"},
		"the plans are free, pro": {"free", "pro"},
		"the plans are p00, p01, p02, p03, p04, p05, p06, p07, p08, p09, p10, p11, p12, p13, p14, p15, p16, p17, p18, p19 and others": many,
	} {
		if got := quota.ListNames("plan", names); got != want {
			t.Errorf("%d names: %s, want %s", len(names), got, want)
		}
	}
}
