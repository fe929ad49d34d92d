package counting

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
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

// anchorsYAML has a plan whose months begin on the day in the claim since, and one that carries.
const anchorsYAML = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0, token: "` + gatewaytest.AdminToken + `" }
store: { url: "${STORE}", timeout: 20s, on_failure: deny, journal: "${JOURNAL}" }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256], claims: { org: org, anchor: app.since } } }
default_plan: paid
timezone: Asia/Kathmandu
plans:
  paid: { anchor: claim, limits: [{ requests: 3, per: month }, { requests: 9, per: year }] }
  first: { anchor: first_use, limits: [{ requests: 3, per: month }] }
  team: { anchor: claim, limits: [{ requests: 300, per: month }], shared: [{ requests: 900, per: month }] }
  daily: { anchor: claim, limits: [{ requests: 300, per: month }], shared: [{ requests: 900, per: day }] }
  saver: { anchor: calendar, limits: [{ requests: 50, per: month, carry: 20 }] }
upstreams: { analysis: { targets: [{ url: "${UPSTREAM}" }] } }
routes: [{ match: "POST /api/analyze", endpoint: analyze, upstream: analysis }]
log: { level: info }
`

func startWithAnchors(t *testing.T, store, upstream string) *gatewaytest.Process {
	t.Helper()
	file := t.TempDir() + "/gateway.yaml"
	testkit.WriteFile(t, file, anchorsYAML)
	return gatewaytest.StartFile(t, []string{"STORE=" + store, "UPSTREAM=" + upstream, "JOURNAL=" + t.TempDir()}, file).Process
}

func anchoredToken(user, plan string, since any) string {
	return testkit.SignedToken(jwt.MapClaims{"sub": user, "plan": plan, "exp": time.Now().Add(time.Hour).Unix(), "app": map[string]any{"since": since}})
}

// monthFrom returns the running month that begins on a day, 1 to 28, and the one after it.
func monthFrom(day int, now time.Time) (start, end time.Time) {
	start = time.Date(now.Year(), now.Month(), day, 0, 0, 0, 0, now.Location())
	if now.Before(start) {
		start = start.AddDate(0, -1, 0)
	}
	return start, start.AddDate(0, 1, 0)
}

// farFrom returns a day, 1 to 28, that does not begin while a test runs.
func farFrom(now time.Time) int { return (now.Day()+13)%28 + 1 }

// The months of a user begin on the day that their token names, whatever form it has, in the time zone
// of the configuration. A claim that cannot be read means the calendar, and the log says so.
func TestMonthsBeginOnTheDayOfTheToken(t *testing.T) {
	kathmandu, err := time.LoadLocation("Asia/Kathmandu") // UTC+5:45
	if err != nil {
		t.Fatal(err)
	}
	upstream := gatewaytest.StartUpstream(t, "ok")
	for name, store := range map[string]string{"embedded": "embedded:" + t.TempDir(), "redis": redistest.Start(t).URL()} {
		t.Run(name, func(t *testing.T) {
			g := startWithAnchors(t, store, upstream.URL)
			now := time.Now().In(kathmandu)
			day := farFrom(now)
			before := time.Date(2024, time.March, day-1, 20, 0, 0, 0, time.UTC) // in Kathmandu it is the day
			if day == 1 {
				before = time.Date(2024, time.February, 29, 20, 0, 0, 0, time.UTC)
			}
			for i, c := range []struct {
				since any
				day   int
			}{
				{day, day}, {strconv.Itoa(day), day}, {before.Format(time.RFC3339), day}, {before.Unix(), day},
				{fmt.Sprintf("2024-03-%02d", day), day},
				{nil, 1}, {"", 1}, {"the 15th", 1}, {true, 1}, {32, 1},
			} {
				token := anchoredToken(fmt.Sprint("user-", i), "", c.since)
				start, end := monthFrom(c.day, now)
				for used := range int64(4) {
					u := gatewaytest.Usage(t, g, token)
					if !u.Period.Start.Equal(start) || !u.Period.End.Equal(end) || !u.Limits[0].ResetsAt.Equal(end) || u.Used != used {
						t.Fatalf("since %v: %d used in %v to %v, want %d in %v to %v", c.since, u.Used, u.Period.Start, u.Period.End, used, start, end)
					}
					if used == 3 {
						break
					}
					res := call(t, g, token)
					if policy := fmt.Sprintf(`"month";q=3;w=%d`, int(end.Sub(start)/time.Second)); !strings.HasPrefix(res.Header.Get("RateLimit-Policy"), policy) ||
						res.Header.Get("X-RateLimit-Reset") != strconv.FormatInt(end.Unix(), 10) || res.StatusCode != 200 {
						t.Fatalf("since %v: %s, %v", c.since, res.Status, res.Header)
					}
				}
				res := call(t, g, token)
				left, _ := strconv.ParseInt(res.Header.Get("Retry-After"), 10, 64)
				if want := int64(time.Until(end) / time.Second); res.StatusCode != 429 || left > want+60 || left < want-1 {
					t.Errorf("since %v: %s, Retry-After %d, want about %d", c.since, res.Status, left, want)
				}
			}
			g.WaitForText(`"msg":"a token's anchor cannot be read; the user's months begin on the 1st"`)
			// A user of first_use begins a month today.
			token, today := anchoredToken("new", "first", nil), time.Now().In(kathmandu)
			call(t, g, token)
			u := gatewaytest.Usage(t, g, token)
			midnight := time.Date(today.Year(), today.Month(), today.Day(), 0, 0, 0, 0, kathmandu)
			if time.Now().Before(midnight.AddDate(0, 0, 1)) && (u.Used != 1 || !u.Period.Start.Equal(midnight)) {
				t.Errorf("first use: %d used since %v, want 1 since %v", u.Used, u.Period.Start, midnight)
			}
		})
	}
}

// call makes a request.
func call(t *testing.T, g *gatewaytest.Process, token string) *http.Response {
	t.Helper()
	req, _ := http.NewRequest("POST", g.URL+"/api/analyze", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res
}

// A month left 20 of what may be carried. Of 400 requests that begin the next month at once, on two
// gateways, exactly 50 + 20 pass.
func TestCarriedOnceAtTheTurn(t *testing.T) {
	var sent atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent.Add(1) }))
	defer upstream.Close()
	redis := redistest.Start(t)
	gateways := []*gatewaytest.Process{startWithAnchors(t, redis.URL(), upstream.URL), startWithAnchors(t, redis.URL(), upstream.URL)}
	kathmandu, err := time.LoadLocation("Asia/Kathmandu")
	if err != nil {
		t.Fatal(err)
	}
	calendar := quota.NewCalendar(kathmandu)
	running := calendar.WindowAt(quota.Month, time.Now())
	var users []string
	for round := range 10 {
		users = append(users, fmt.Sprint("user-", round))
	}
	monthBefore{"saver", quota.CalendarAnchor, 1, calendar}.useInRedis(t, redis.URL(), users)
	for round, user := range users {
		sent.Store(0)
		token := anchoredToken(user, "saver", nil)
		var passed, refused atomic.Int64
		var wait sync.WaitGroup
		for i := range 400 {
			wait.Go(func() {
				switch status := gatewaytest.Post(http.DefaultClient, gateways[i%2].URL+"/api/analyze", token); status {
				case 200:
					passed.Add(1)
				case 429:
					refused.Add(1)
				default:
					t.Errorf("status %d", status)
				}
			})
		}
		wait.Wait()
		if !running.Contains(time.Now()) {
			continue // the month has ended during the round
		}
		if passed.Load() != 70 || refused.Load() != 330 || sent.Load() != 70 {
			t.Fatalf("round %d: %d passed, %d were refused, %d reached the upstream; want 70, 330, 70", round, passed.Load(), refused.Load(), sent.Load())
		}
		for _, g := range gateways {
			if u := gatewaytest.Usage(t, g, token); u.Used != 70 || *u.Limit != 70 || *u.Carried != 20 || *u.Limits[0].Carried != 20 {
				t.Fatalf("round %d: usage %+v", round, u)
			}
		}
	}
}

// Members of one organisation have different days in their tokens, and different plans. Their months
// begin on their own days, and those of what they share on that of the first of them. Once the gateways know
// that, they neither write nor read it with a request.
func TestMembersWithDifferentDaysShareOneMonth(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	redis := redistest.Start(t)
	var others atomic.Int64
	var gateways []*gatewaytest.Process
	for range 2 {
		c := redistest.StartFaultProxy(t, redis.Addr)
		c.OnCommand(func(cmd redistest.Command) redistest.Fate {
			if script := cmd.Script(); script == redistest.Look || script == redistest.Terms {
				others.Add(1)
			}
			return redistest.Pass
		})
		gateways = append(gateways, startWithAnchors(t, c.URL(), upstream.URL))
	}
	kathmandu, err := time.LoadLocation("Asia/Kathmandu")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().In(kathmandu)
	first := farFrom(now)
	token := func(i int) string {
		claims := jwt.MapClaims{"sub": fmt.Sprint("m-", i), "plan": "team", "org": "acme", "exp": time.Now().Add(time.Hour).Unix()}
		claims["app"] = map[string]any{"since": (first+5*i-1)%28 + 1}
		if i == 3 {
			claims["plan"] = "daily"
		}
		return testkit.SignedToken(claims)
	}
	use := func(rounds int) {
		var wait sync.WaitGroup
		for i := range 4 {
			wait.Go(func() {
				for n := range rounds {
					if status := gatewaytest.Post(http.DefaultClient, gateways[n%2].URL+"/api/analyze", token(i)); status != 200 {
						t.Errorf("member %d: status %d", i, status)
					}
				}
			})
		}
		wait.Wait()
	}
	if status := gatewaytest.Post(http.DefaultClient, gateways[0].URL+"/api/analyze", token(0)); status != 200 {
		t.Fatalf("status %d", status)
	}
	use(4)
	others.Store(0)
	use(20)
	if n := others.Load(); n != 0 {
		t.Errorf("80 requests took %d more calls about terms", n)
	}
	_, end := monthFrom(first, now)
	for i := range 3 {
		u := gatewaytest.Usage(t, gateways[i%2], token(i))
		if shared := u.Limits[1]; shared.Name != "shared-month" || shared.Used != 73 || !shared.ResetsAt.Equal(end) {
			t.Errorf("member %d: %s has %d used and resets at %v, want 73 and %v", i, shared.Name, shared.Used, shared.ResetsAt, end)
		}
	}
	text := gatewaytest.Administer(t, gateways[0], "PUT", "/admin/orgs/acme/anchor", fmt.Sprintf(`{"anchor": %d}`, (first+2)%28+1))
	if !strings.Contains(text, fmt.Sprintf(`"from":%q`, end.In(kathmandu).Format(time.RFC3339))) || !strings.Contains(text, `"set":true`) {
		t.Errorf("an administrator has moved the months of acme: %s", text)
	}
}
