package counterfile

import "metergate/quota"

// AddPools adds the counts of the organisations themselves, of which the files have only members: what
// an organisation has used is the sum of what its members have used. An organisation with a row of its
// own is left as it is. So is one whose members' windows have bounds of their own: leftOut is how many
// these are.
func (r *Result) AddPools() (added, leftOut int) {
	pools := map[string]*UserCounts{}
	for _, u := range r.Users {
		if u.Account.User == "" {
			pools[u.Account.Org] = nil
		}
	}
	var order []*UserCounts
	bounded := map[string]bool{}
	for _, u := range r.Users {
		if u.Account.Org == "" || u.Account.User == "" {
			continue
		}
		pool, known := pools[u.Account.Org]
		if !known {
			pool = &UserCounts{Account: Account{Org: u.Account.Org}, Derived: true}
			pools[u.Account.Org] = pool
			order = append(order, pool)
		}
		if pool == nil {
			continue
		}
		if !u.Window.IsZero() {
			bounded[u.Account.Org] = true
		}
		for _, c := range u.Counts {
			pool.add(c, &r.Faults)
		}
	}
	for _, pool := range order {
		if bounded[pool.Account.Org] {
			leftOut++
			continue
		}
		r.Users = append(r.Users, pool)
		added++
	}
	return added, leftOut
}

// add adds a member's count to that of the organisation.
func (u *UserCounts) add(c Count, faults *Faults) {
	for i := range u.Counts {
		sum := &u.Counts[i]
		if sum.Endpoint != c.Endpoint {
			continue
		}
		sum.join(c.Used, c.Units)
		if sum.Used > quota.MaxAmount || sum.Units > quota.MaxAmount {
			faults.Add(c.Place, "the sum of the members of %s is more than %d", u.Account, int64(quota.MaxAmount))
			sum.Used, sum.Units = 0, -1
		}
		return
	}
	u.Counts = append(u.Counts, c)
}

// join adds what was used of the same endpoint.
func (c *Count) join(used, units int64) {
	if c.Units >= 0 || units >= 0 {
		c.Units = orUsed(c.Units, c.Used) + orUsed(units, used)
	}
	c.Used += used
}
