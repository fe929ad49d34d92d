package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"text/tabwriter"
	"time"

	"metergate/cmd/metergate/app"
	"metergate/config"
	"metergate/quota"
	"metergate/quota/plancheck"
)

// planCheck lists whom the limits of another configuration would block now. The plans
// come from the file, and what users have used from a running gateway.
func planCheck(c *console) error {
	f := c.flags()
	file, admin := configFlag(f), adminFlag(f)
	most := f.Int("n", 20, "the most users to show; 0: all")
	if _, err := c.parse(f); err != nil {
		return err
	}
	if *most < 0 {
		return c.usageError("-n must not be negative")
	}
	cfg, err := loadOnly(*file, "plans", "default_plan", "routes")
	if err != nil {
		return err
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	found, err := client.checkPlans(cfg)
	if err != nil {
		return err
	}
	found.print(c.stdout, *most)
	return nil
}

// A planCheckResult is what planCheck finds.
type planCheckResult struct {
	soft    bool // a plan has soft limits
	costs   bool // a request may cost more than one unit
	byPlan  map[string]*plancheck.Count
	blocked []blockedUser // sorted by name
}

// A blockedUser is a user whose next request a limit would refuse, or one to some endpoint.
type blockedUser struct {
	account account
	plan    *quota.Plan
	reached []plancheck.Reached
}

// checkPlans compares what all users have used with the plans of a configuration.
func (c *adminClient) checkPlans(cfg *config.Config) (*planCheckResult, error) {
	plans, err := app.Plans(cfg)
	if err != nil {
		return nil, err
	}
	probing, err := plancheck.Probing(plans)
	if err != nil {
		return nil, err
	}
	users, err := c.usersNow(plancheck.Periods(plans))
	if err != nil {
		return nil, err
	}
	if err := c.addPools(users, plans); err != nil {
		return nil, err
	}
	result := &planCheckResult{byPlan: map[string]*plancheck.Count{}}
	for name, p := range plans {
		result.byPlan[name] = new(plancheck.Count)
		result.soft = result.soft || slices.ContainsFunc(p.Limits(), func(l quota.Limit) bool { return l.Soft })
		result.costs = result.costs || slices.ContainsFunc(p.Endpoints(), func(e string) bool { return p.Cost(e).MaxUnits() > 1 })
	}
	for _, who := range slices.SortedFunc(maps.Keys(users), account.compare) {
		u := users[who]
		p := probing[u.planName(plans, cfg.DefaultPlan)].ForScope(who.scope())
		found := plancheck.Check(u.snapshot(p))
		if len(found.Reached) > 0 || found.AboveSoft {
			// Only now ask for the user's grants: few users are near their limits.
			if err := c.addGrants(who, u); err != nil {
				return nil, err
			}
			found = plancheck.Check(u.snapshot(p))
		}
		result.byPlan[p.Name()].Add(&found)
		if len(found.Reached) > 0 {
			result.blocked = append(result.blocked, blockedUser{who, p, found.Reached})
		}
	}
	return result, nil
}

// print writes at most so many users, or all if most is 0.
func (r *planCheckResult) print(w io.Writer, most int) {
	var sum plancheck.Count
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, users, blocked, onEndpoint, above any) {
		fmt.Fprintf(t, "%v\t%v\t%v\t%v", name, users, blocked, onEndpoint)
		if r.soft {
			fmt.Fprintf(t, "\t%v", above)
		}
		fmt.Fprintln(t)
	}
	row("PLAN", "USERS", "BLOCKED", "BLOCKED ON AN ENDPOINT", "ABOVE A SOFT LIMIT")
	for _, name := range slices.Sorted(maps.Keys(r.byPlan)) {
		n := r.byPlan[name]
		row(name, n.Users, n.Blocked, n.OnEndpoint, n.AboveSoft)
		sum.Users, sum.Blocked, sum.OnEndpoint, sum.AboveSoft = sum.Users+n.Users, sum.Blocked+n.Blocked, sum.OnEndpoint+n.OnEndpoint, sum.AboveSoft+n.AboveSoft
	}
	t.Flush()
	fmt.Fprintf(w, "\nof %s with something counted now, %d would be blocked, and %d more on an endpoint\n", plural(sum.Users, "user"), sum.Blocked, sum.OnEndpoint)
	if r.soft {
		fmt.Fprintf(w, "%d would be above a soft limit, which refuses nothing\n", sum.AboveSoft)
	}
	if len(r.blocked) == 0 {
		return
	}
	shown := r.blocked
	if most > 0 && len(shown) > most {
		shown = shown[:most]
	}
	fmt.Fprintln(w)
	header, org, refused := "USER\tPLAN\tLIMIT\tUSED\tOF", "", ""
	if r.costs {
		header += "\tREFUSED"
	}
	members := slices.ContainsFunc(shown, func(b blockedUser) bool { return b.account.org != "" })
	if members {
		header = "ORGANISATION\t" + header
	}
	fmt.Fprintln(t, header)
	for _, b := range shown {
		if members {
			org = cmp.Or(b.account.org, "-") + "\t"
		}
		for _, l := range b.reached {
			if r.costs {
				refused = "\t" + l.Refused(b.plan)
			}
			fmt.Fprintf(t, "%s%s\t%s\t%s\t%d\t%d%s\n", org, b.account.user, b.plan.Name(), l.Name(), l.Used, l.Of, refused)
		}
	}
	t.Flush()
	if n := len(r.blocked) - len(shown); n > 0 {
		fmt.Fprintf(w, "and %d more; -n 0 shows all\n", n)
	}
}

// A usedUser is what one user has used in the running windows.
type usedUser struct {
	claimed, override string // names of plans; empty: none
	total             map[quota.Period]int64
	endpoints         map[quota.Period]map[string]int64
	extra             map[quota.Period]map[string]int64 // by how much the units of these exceed them
	granted, carried  map[quota.Counter]int64           // nil before addGrants
	pool              *usedUser                         // what the user's organisation has used; nil: nothing
}

func newUsedUser() *usedUser {
	return &usedUser{total: map[quota.Period]int64{}, endpoints: map[quota.Period]map[string]int64{}, extra: map[quota.Period]map[string]int64{}}
}

// planName returns the name of the plan that the user would have.
func (u *usedUser) planName(plans map[string]*quota.Plan, byDefault string) string {
	for _, name := range []string{u.override, u.claimed} {
		if plans[name] != nil {
			return name
		}
	}
	return byDefault
}

// snapshot lays out by a plan what the user has used. Of the windows it knows only that they run.
func (u *usedUser) snapshot(p *quota.Plan) quota.Snapshot {
	counts := make([]quota.Count, len(p.Counters()))
	for i, c := range p.Counters() {
		switch {
		case !c.Shared:
			counts[i].Used = u.used(c)
		case u.pool != nil:
			counts[i].Used = u.pool.used(c)
		}
		if i < len(p.Limits()) {
			l := p.Limits()[i]
			counts[i].Granted, counts[i].Carried = u.granted[c], min(l.Amount, l.Carry, u.carried[c])
		}
	}
	return p.NewSnapshot(time.Time{}, counts)
}

// used returns what the user has used of a counter.
func (u *usedUser) used(c quota.Counter) int64 {
	used := u.endpoints[c.Period][c.Endpoint]
	if c.Endpoint == "" {
		used = u.total[c.Period]
	}
	if c.Quantity == quota.Units {
		for endpoint, extra := range u.extra[c.Period] {
			if c.Endpoint == "" || c.Endpoint == endpoint {
				used += extra
			}
		}
	}
	return used
}

// usersNow lists all users with what they have used in the running windows of periods.
func (c *adminClient) usersNow(periods []quota.Period) (map[account]*usedUser, error) {
	users := map[account]*usedUser{}
	for _, per := range periods {
		if err := c.addUsers(users, per); err != nil {
			return nil, err
		}
	}
	return users, nil
}

// addUsers adds what users have used in the running window of a period.
func (c *adminClient) addUsers(users map[account]*usedUser, per quota.Period) error {
	res, err := c.send(context.Background(), adminRequest{method: http.MethodGet, path: "/admin/users?format=jsonl&per=" + per.String()})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	for dec := json.NewDecoder(res.Body); ; {
		var row struct {
			User, Org string
			Used      int64
			Endpoints map[string]int64
			Units     map[string]int64
			Claimed   string
			Override  struct{ Plan string }
		}
		if err := dec.Decode(&row); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("the list of users broke off: %w", err)
		}
		who := account{row.Org, row.User}
		u := users[who]
		if u == nil {
			u = newUsedUser()
			users[who] = u
		}
		u.claimed, u.override = row.Claimed, row.Override.Plan
		u.total[per], u.endpoints[per] = row.Used, row.Endpoints
		for endpoint := range row.Units {
			row.Units[endpoint] -= row.Endpoints[endpoint]
		}
		u.extra[per] = row.Units
	}
}

// addPools adds what the organisations of users have used of what plans let their members share.
func (c *adminClient) addPools(users map[account]*usedUser, plans map[string]*quota.Plan) error {
	periods := map[quota.Period]bool{}
	for _, p := range plans {
		for _, l := range p.Limits() {
			periods[l.Period] = periods[l.Period] || l.Shared
		}
	}
	pools := map[string]*usedUser{}
	for who, u := range users {
		if who.org == "" {
			continue
		}
		pool := pools[who.org]
		if pool == nil {
			pool = newUsedUser()
			pools[who.org] = pool
			for per, shared := range periods {
				if !shared {
					continue
				}
				if err := c.addPool(pool, who.org, per); err != nil {
					return err
				}
			}
		}
		u.pool = pool
	}
	return nil
}

// addPool adds what an organisation has used in the running window of a period.
func (c *adminClient) addPool(pool *usedUser, org string, per quota.Period) error {
	var now adminUser
	if err := c.readJSON(adminRequest{method: http.MethodGet, path: account{org: org}.path("") + "?per=" + per.String()}, &now); err != nil {
		return err
	}
	pool.endpoints[per], pool.extra[per] = map[string]int64{}, map[string]int64{}
	for name, e := range now.Endpoints {
		pool.endpoints[per][name] = e.Used
		pool.total[per] += e.Used
		if e.Units != nil {
			pool.extra[per][name] = *e.Units - e.Used
		}
	}
	return nil
}

// addGrants adds what was granted and carried on top of the limits that the user has now, and that their
// organisation shares.
func (c *adminClient) addGrants(who account, u *usedUser) error {
	var now adminUser
	if err := c.readJSON(adminRequest{method: http.MethodGet, path: who.path("")}, &now); err != nil {
		return err
	}
	u.granted, u.carried = map[quota.Counter]int64{}, map[quota.Counter]int64{}
	for _, g := range now.Granted {
		counter := quota.Counter{Period: g.Per, Endpoint: g.Endpoint, Shared: g.Shared}
		if g.Units > 0 {
			counter.Quantity = quota.Units
		}
		u.granted[counter] = g.Requests + g.Units
	}
	for _, l := range now.Limits {
		if l.Carried != nil {
			counter := quota.Counter{Period: l.Period, Endpoint: l.Endpoint, Shared: l.Shared}
			if l.Unit == quota.Units.String() {
				counter.Quantity = quota.Units
			}
			u.carried[counter] = *l.Carried
		}
	}
	return nil
}
