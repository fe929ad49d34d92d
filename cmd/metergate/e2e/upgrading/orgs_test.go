package upgrading

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// beforeOrgs is the release before, with what was sold then; nowOrgs is this one, with organisations and
// months that begin on the customer's day.
var (
	beforeOrgs = version{
		release: true,
		plans: `
  free: { limits: [{ requests: 100, per: month }] }
  team: { limits: [{ requests: 10, per: month }] }
  paid: { limits: [{ requests: 100, per: month }] }`,
		routes: before.routes,
	}
	nowOrgs = version{
		claims: ", claims: { org: org, anchor: since }",
		plans: `
  free: { limits: [{ requests: 100, per: month }] }
  team: { limits: [{ requests: 10, per: month }], shared: [{ requests: 100, per: month, carry: 50 }] }
  paid: { anchor: claim, limits: [{ requests: 100, per: month, carry: all }] }`,
		routes: before.routes,
	}
)

// race has n clients call each of the gateways at once, each with a token of its own, and returns how
// many calls passed on each.
func race(t *testing.T, n int, token func(i int) string, gateways ...*gatewaytest.Process) []int64 {
	t.Helper()
	client, passed := gatewaytest.NewClient(t), make([]atomic.Int64, len(gateways))
	var wait sync.WaitGroup
	for i := range n {
		for j, g := range gateways {
			wait.Go(func() {
				switch status := gatewaytest.Post(client, g.URL+"/api/analyze", token(i)); status {
				case 200:
					passed[j].Add(1)
				case 429:
				default:
					t.Errorf("status %d", status)
				}
			})
		}
	}
	wait.Wait()
	counts := make([]int64, len(gateways))
	for j := range passed {
		counts[j] = passed[j].Load()
	}
	return counts
}

// listed returns what each user of a list has used in the running month, as "org/user".
func listed(t *testing.T, g *gatewaytest.Process) map[string]int64 {
	t.Helper()
	used := map[string]int64{}
	for line := range strings.Lines(gatewaytest.Administer(t, g, "GET", "/admin/users", "")) {
		var u struct {
			Org, User string
			Used      int64
		}
		if err := json.Unmarshal([]byte(line), &u); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if _, twice := used[u.Org+"/"+u.User]; twice {
			t.Errorf("%s/%s is listed twice", u.Org, u.User)
		}
		used[u.Org+"/"+u.User] = u.Used
	}
	return used
}

// The release before does not read the claim: it counts a member as a user without an organisation,
// under the user's own limit. This one keeps the pool exact. Neither touches what the other counts, and
// no request is counted twice.
func TestReleaseBesideOrganisations(t *testing.T) {
	t.Parallel()
	redis, upstream := redistest.Start(t), startAPI(t)
	older := beforeOrgs.start(t, t.TempDir(), redis.URL(), upstream.URL)
	newer := nowOrgs.start(t, t.TempDir(), redis.URL(), upstream.URL)
	for round := range 3 {
		org := fmt.Sprint("org-", round)
		user := func(i int) string { return fmt.Sprintf("%s-user-%d", org, i%40) }
		passed := race(t, 200, func(i int) string { return testkit.MemberToken(org, user(i), "team") }, older, newer)
		// 40 users call 5 times on each gateway, of the 10 that each may.
		if passed[0] != 200 || passed[1] != 100 {
			t.Errorf("round %d: %d passed on the release before, %d on this one; want 200 and 100", round, passed[0], passed[1])
		}
		var pool quota.Usage
		if err := json.Unmarshal([]byte(gatewaytest.Administer(t, newer, "GET", "/admin/orgs/"+org, "")), &pool); err != nil || pool.Used != 100 || pool.InFlight != 0 {
			t.Errorf("round %d: the organisation has used %+v, error %v", round, pool, err)
		}
		all := listed(t, newer)
		members, users := int64(0), int64(0)
		for i := range 40 {
			members += all[org+"/"+user(i)]
			users += all["/"+user(i)]
			if n := all["/"+user(i)]; n != 5 {
				t.Errorf("round %d: the release before has counted %d requests of %s, want 5", round, n, user(i))
			}
		}
		if members != 100 || users != 200 {
			t.Errorf("round %d: %d requests of members are listed and %d of users, want 100 and 200", round, members, users)
		}
		ofOlder := listed(t, older)
		for i := range 40 {
			if n := ofOlder["/"+user(i)]; n != 5 {
				t.Errorf("round %d: the release before lists %d requests of %s, want 5", round, n, user(i))
			}
		}
		if len(ofOlder) != 40*(round+1) {
			t.Errorf("round %d: the release before lists %d users: %v", round, len(ofOlder), ofOlder)
		}
	}
}

// anchored is the token of a user whose months begin on a day that does not begin while the test runs.
func anchored(user string) string {
	day := (time.Now().UTC().Day()+13)%28 + 1
	return testkit.SignedToken(jwt.MapClaims{"sub": user, "plan": "paid", "since": day, "exp": time.Now().Add(time.Hour).Unix()})
}

// A user whom the release before has counted this month stays in the month of the calendar until its
// end, on both, and the limit is exact. A user whom this release sees first has a month of their own
// here, and one of the calendar there: each is exact, and neither counts what the other has.
func TestReleaseBesideAnchors(t *testing.T) {
	t.Parallel()
	redis, upstream := redistest.Start(t), startAPI(t)
	older := beforeOrgs.start(t, t.TempDir(), redis.URL(), upstream.URL)
	newer := nowOrgs.start(t, t.TempDir(), redis.URL(), upstream.URL)
	running := quota.NewCalendar(nil).WindowAt(quota.Month, time.Now())
	race(t, 10, func(int) string { return anchored("known") }, older)
	race(t, 1, func(int) string { return anchored("new") }, newer)
	known := race(t, 200, func(int) string { return anchored("known") }, older, newer)
	fresh := race(t, 200, func(int) string { return anchored("new") }, older, newer)
	if !running.Contains(time.Now()) {
		return // a month has begun meanwhile
	}
	if known[0]+known[1] != 90 || fresh[0] != 100 || fresh[1] != 99 {
		t.Errorf("of the known user %d and %d passed, want 90 together; of the new one %d and %d, want 100 and 99", known[0], known[1], fresh[0], fresh[1])
	}
	for user, own := range map[string]bool{"known": false, "new": true} {
		for _, g := range []*gatewaytest.Process{older, newer} {
			u := gatewaytest.Usage(t, g, anchored(user))
			if u.Used != 100 || u.InFlight != 0 || *u.Limit != 100 || u.Period.Start.Equal(running.Start) != (!own || g == older) {
				t.Errorf("%s: %d of %d used, %d in flight, since %v", user, u.Used, *u.Limit, u.InFlight, u.Period.Start)
			}
		}
	}
	// The release before has kept the user's terms: they hold at once when it is gone.
	older.Kill()
	newer.Kill()
	newer = newer.Restart()
	if u := gatewaytest.Usage(t, newer, anchored("new")); u.Used != 100 || u.Period.Start.Equal(running.Start) {
		t.Errorf("after the upgrade: %d used since %v", u.Used, u.Period.Start)
	}
}

// The release before reads an embedded file in which this one has kept terms and pools. It goes on with
// the counts of users in the months of the calendar, lists accounts of organisations under ids that no
// user has, and leaves all of that for this one to find.
func TestEmbeddedStoreOfOrganisationsGoesBack(t *testing.T) {
	t.Parallel()
	upstream, dir := startAPI(t), t.TempDir()
	const store = "embedded:data"
	member := func(int) string { return testkit.MemberToken("acme", "ann", "team") }
	newer := nowOrgs.start(t, dir, store, upstream.URL)
	race(t, 3, member, newer)
	race(t, 4, func(int) string { return anchored("own") }, newer)
	race(t, 5, func(int) string { return testkit.Token("u", "free") }, newer)
	stop(t, newer)

	older := beforeOrgs.start(t, dir, store, upstream.URL)
	for token, want := range map[string]int64{member(0): 0, anchored("own"): 0, testkit.Token("u", "free"): 5} {
		if u := gatewaytest.Usage(t, older, token); u.Used != want {
			t.Errorf("the release before: user %s has used %d, want %d", u.User, u.Used, want)
		}
	}
	if got, want := listed(t, older), map[string]int64{"/" + quota.PoolAccount("acme"): 3, "/" + quota.MemberAccount("acme", "ann"): 3, "/u": 5}; !maps.Equal(got, want) {
		t.Errorf("the release before lists %v, want %v", got, want)
	}
	race(t, 2, member, older)
	race(t, 1, func(int) string { return anchored("own") }, older)
	race(t, 2, func(int) string { return testkit.Token("u", "free") }, older)
	older.Kill()

	newer = nowOrgs.start(t, dir, store, upstream.URL)
	if u := gatewaytest.Usage(t, newer, member(0)); u.Used != 3 || u.Limits[1].Used != 3 {
		t.Errorf("of the member: %+v", u)
	}
	if u := gatewaytest.Usage(t, newer, anchored("own")); u.Used != 4 {
		t.Errorf("of the user with own months: %+v", u)
	}
	if u := gatewaytest.Usage(t, newer, testkit.Token("u", "free")); u.Used != 7 {
		t.Errorf("of the user: %+v", u)
	}
	if all := listed(t, newer); all["acme/ann"] != 3 || all["/ann"] != 2 || all["/u"] != 7 {
		t.Errorf("listed: %v", all)
	}
}
