package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"text/tabwriter"

	"metergate/cmd/metergate/app"
	"metergate/quota"
)

// planCheck says whom the limits of another configuration would block now. What users
// have used is the gateway's, and the plans are those of the file.
func planCheck(c *console) error {
	f := c.flags("plan-check")
	file := configFlag(f)
	admin := adminFlag(f)
	most := f.Int("n", 20, "show so many users, 0: all of them")
	if _, err := c.arguments(f); err != nil {
		return err
	}
	if *most < 0 {
		return errUsage("plan-check: -n must not be negative")
	}
	cfg, err := load(*file)
	if err != nil {
		return err
	}
	plans, err := app.Plans(cfg)
	if err != nil {
		return err
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	users, err := client.usedNow(kindsOf(plans))
	if err != nil {
		return err
	}
	byPlan := map[string]*planResult{}
	for name := range plans {
		byPlan[name] = new(planResult)
	}
	var all []blockedUser
	for _, name := range slices.Sorted(maps.Keys(users)) {
		u := users[name]
		p := plans[u.planOf(plans, cfg.DefaultPlan)]
		result := byPlan[p.Name()]
		result.users++
		reached := u.reached(p)
		if len(reached) > 0 {
			// Few are near their limits. What was granted to these counts, too.
			if err := client.grantsOf(name, u); err != nil {
				return err
			}
			reached = u.reached(p)
		}
		if len(reached) == 0 {
			continue
		}
		if slices.ContainsFunc(reached, func(l quota.Limit) bool { return l.Endpoint == "" }) {
			result.blocked++
		} else {
			result.onEndpoint++
		}
		all = append(all, blockedUser{name, p.Name(), reached, u})
	}
	c.showPlanCheck(byPlan, all, *most)
	return nil
}

// A planResult is about the users of one plan.
type planResult struct{ users, blocked, onEndpoint int }

// A blockedUser is one with limits that are reached.
type blockedUser struct {
	name, plan string
	reached    []quota.Limit
	usage      *usedUser
}

func (c *console) showPlanCheck(byPlan map[string]*planResult, all []blockedUser, most int) {
	var sum planResult
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PLAN\tUSERS\tBLOCKED\tBLOCKED ON AN ENDPOINT")
	for _, name := range slices.Sorted(maps.Keys(byPlan)) {
		r := byPlan[name]
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\n", name, r.users, r.blocked, r.onEndpoint)
		sum.users, sum.blocked, sum.onEndpoint = sum.users+r.users, sum.blocked+r.blocked, sum.onEndpoint+r.onEndpoint
	}
	t.Flush()
	fmt.Fprintf(c.stdout, "\nof %d users with something counted now, %d would be blocked, and %d more on an endpoint\n", sum.users, sum.blocked, sum.onEndpoint)
	if len(all) == 0 {
		return
	}
	shown := all
	if most > 0 && len(all) > most {
		shown = all[:most]
	}
	fmt.Fprintln(c.stdout)
	fmt.Fprintln(t, "USER\tPLAN\tLIMIT\tUSED\tOF")
	for _, b := range shown {
		for _, l := range b.reached {
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\n", b.name, b.plan, l.Name(), b.usage.used(l), l.Requests+b.usage.granted[quota.Counter{Period: l.Period, Endpoint: l.Endpoint}])
		}
	}
	t.Flush()
	if n := len(all) - len(shown); n > 0 {
		fmt.Fprintf(c.stdout, "and %d more; -n 0 shows all\n", n)
	}
}

// kindsOf are the windows that some limit is over, and the month, for who has none.
func kindsOf(plans map[string]*quota.Plan) []quota.Period {
	kinds := map[quota.Period]bool{quota.Month: true}
	for _, p := range plans {
		for _, l := range p.Limits() {
			kinds[l.Period] = true
		}
	}
	return slices.Sorted(maps.Keys(kinds))
}

// A usedUser is what one user has used in the running windows.
type usedUser struct {
	claimed, override string
	total             map[quota.Period]int64
	endpoints         map[quota.Period]map[string]int64
	granted           map[quota.Counter]int64
}

// planOf is the name of the plan that the user would have.
func (u *usedUser) planOf(plans map[string]*quota.Plan, byDefault string) string {
	for _, name := range []string{u.override, u.claimed} {
		if plans[name] != nil {
			return name
		}
	}
	return byDefault
}

func (u *usedUser) used(l quota.Limit) int64 {
	if l.Endpoint == "" {
		return u.total[l.Period]
	}
	return u.endpoints[l.Period][l.Endpoint]
}

// reached are the limits of p that leave the user nothing. An endpoint that he has not
// used is left out, whatever its limit: he would not notice.
func (u *usedUser) reached(p *quota.Plan) (reached []quota.Limit) {
	for _, l := range p.Limits() {
		if used := u.used(l); used >= l.Requests+u.granted[quota.Counter{Period: l.Period, Endpoint: l.Endpoint}] && (l.Endpoint == "" || used > 0) {
			reached = append(reached, l)
		}
	}
	return reached
}

// usedNow lists all users in the running windows of some kinds.
func (c *adminClient) usedNow(kinds []quota.Period) (map[string]*usedUser, error) {
	users := map[string]*usedUser{}
	for _, per := range kinds {
		res, err := c.open(context.Background(), http.MethodGet, "/admin/users?format=jsonl&per="+per.String(), nil, "")
		if err != nil {
			return nil, err
		}
		for dec := json.NewDecoder(res.Body); ; {
			var line struct {
				User      string
				Used      int64
				Endpoints map[string]int64
				Claimed   string
				Override  struct{ Plan string }
			}
			if err = dec.Decode(&line); err != nil {
				break
			}
			u := users[line.User]
			if u == nil {
				u = &usedUser{total: map[quota.Period]int64{}, endpoints: map[quota.Period]map[string]int64{}}
				users[line.User] = u
			}
			u.claimed, u.override = line.Claimed, line.Override.Plan
			u.total[per], u.endpoints[per] = line.Used, line.Endpoints
		}
		res.Body.Close()
		if !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("the list of users has broken off: %w", err)
		}
	}
	return users, nil
}

// grantsOf adds what was granted to the limits that the user has now.
func (c *adminClient) grantsOf(name string, u *usedUser) error {
	answer, err := c.call(http.MethodGet, userPath(name, ""), nil, "")
	if err != nil {
		return err
	}
	var now adminUser
	if err := json.Unmarshal(answer, &now); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	u.granted = map[quota.Counter]int64{}
	for _, g := range now.Granted {
		u.granted[quota.Counter{Period: g.Per, Endpoint: g.Endpoint}] = g.Requests
	}
	return nil
}
