package quota

import "testing"

// Whatever a caller fills in, both steps together charge no more than is held.
func TestStepsChargeNoMoreThanIsHeld(t *testing.T) {
	for _, c := range []struct {
		units, unused, rest, restCharged int64
		first, left, second              int64
	}{
		{units: 0, first: 1},
		{units: 8, first: 8},
		{units: 8, unused: 7, rest: 7, restCharged: 4, first: 1, left: 7, second: 4},
		{units: 8, unused: 8, rest: 8, restCharged: 8, first: 0, left: 8, second: 8},
		{units: 8, unused: 5, rest: 3, restCharged: 0, first: 3, left: 3, second: 0},
		{units: 8, unused: 5, rest: 6, restCharged: 9, first: 3, left: 5, second: 5},
		{units: 8, unused: 9, rest: 9, restCharged: 9, first: 0, left: 8, second: 8},
		{units: 8, unused: -1, rest: 3, restCharged: 3, first: 8},
		{units: 8, unused: 5, rest: -3, restCharged: -1, first: 3},
	} {
		r := Reservation{Request: Request{Units: c.units}, Unused: c.unused, Rest: c.rest, RestCharged: c.restCharged}
		if first, left, second := r.ChargedUnits(), r.RestUnits(), r.ChargedRest(); first != c.first || left != c.left || second != c.second {
			t.Errorf("%+v: charges %d, leaves %d, charges %d of it; want %d, %d, %d", c, first, left, second, c.first, c.left, c.second)
		}
	}
}
