package operating

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/config"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// checkedTop is a configuration up to its plans, with all that the limits of plans may be about.
const checkedTop = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0, token: "` + gatewaytest.AdminToken + `" }
store: { url: "%s", timeout: 20s, journal: "%s" }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256], claims: { org: org, anchor: since } } }
default_plan: free
unit_name: credits
upstreams:
  analysis: { targets: [{ url: "http://127.0.0.1:1" }], timeout: 60s }
routes:
  - { match: "POST /api/analyze", endpoint: analyze, upstream: analysis }
  - { match: "POST /api/image",   endpoint: image,   upstream: analysis, cost: 5 }
`

// checkedPlans are the plans of a configuration.
const checkedPlans = `plans:
  free:
    limits:
      - { requests: 100, per: month } # a comment
      - { requests: 20, per: month, endpoint: image }
      - { requests: 30, per: week, mode: observe }
    attempts: { requests: 5, per: minute }
    upgrade_url: https://shop.example/a?b=c#d
  credits:
    limits: [{ units: 100, per: month }, { units: 1000, per: ever }, { units: 50, per: month, mode: observe }]
    concurrent: { requests: 3, wait: 5s }
  saver: { anchor: claim, limits: [{ requests: 50, per: month, carry: 20 }, { requests: 60, per: year, endpoint: analyze, carry: all }] }
  team:
    limits: [{ requests: 10, per: month }]
    shared: [{ requests: 40, per: month }, { units: 60, per: day }]
  "123": { limits: [] }
`

// What GET /admin/plans/check says is what metergate plan-check says, now of the file in force, and then of the
// one into which its YAML was pasted.
func TestPlanCheckOfConsoleIsThatOfCommand(t *testing.T) {
	stores := map[string]func() string{
		"redis":    func() string { return redistest.Start(t).URL() },
		"embedded": func() string { return "embedded:" + t.TempDir() },
	}
	for name, store := range stores {
		t.Run(name, func(t *testing.T) {
			top := fmt.Sprintf(checkedTop, store(), t.TempDir())
			g := gatewaytest.StartWith(t, top+checkedPlans)
			countForPlanCheck(t, g.Process)

			changes := []string{"free/month=40", "free/image-month=3", "free/week-soft=50", "credits/month-units=70", "credits/ever-units=40", "credits/month-units-soft=20",
				"saver/month=20", "saver/analyze-year=10", "team/month=4", "team/shared-month=9", "team/shared-day-units=30"}
			checked := checkPlans(t, g.Process, changes...)
			newFile := filepath.Join(t.TempDir(), "new.yaml")
			plans, _ := strings.CutPrefix(checked.YAML, "plans:\n")
			testkit.WriteFile(t, newFile, []byte(top+"plans:\n  \"123\": { limits: [] }\n"+plans))
			now, then := map[string]string{}, map[string]string{}
			for _, p := range checked.Plans {
				now[p.Name] = fmt.Sprint(p.Users, p.BlockedNow, p.OnEndpointNow, p.AboveSoftNow)
				then[p.Name] = fmt.Sprint(p.Users, p.BlockedThen, p.OnEndpointThen, p.AboveSoftThen)
			}
			if diff := cmp.Diff(planCheckOutput(t, g.Process, g.File), now); diff != "" {
				t.Errorf("now, the command (-) and the console (+) say:\n%s", diff)
			}
			if diff := cmp.Diff(planCheckOutput(t, g.Process, newFile), then); diff != "" {
				t.Errorf("then, the command (-) and the console (+) say:\n%s\nwith\n%s", diff, checked.YAML)
			}
			if checked.NewlyBlocked < 5 || len(checked.Users) != checked.NewlyBlocked || checked.Freed != 0 {
				t.Errorf("%+v", checked)
			}
			if back := checkPlans(t, g.Process, "free/month=1000", "free/image-month=1000"); back.Freed != 2 || back.NewlyBlocked != 0 {
				t.Errorf("with more room: %+v", back)
			}
			wantOnlyAmountsChanged(t, g.File, newFile, changes)
		})
	}
}

// countForPlanCheck has users of all plans use something.
func countForPlanCheck(t *testing.T, p *gatewaytest.Process) {
	t.Helper()
	for path, text := range map[string]string{
		"users/few":               `free {"analyze":10}`,
		"users/half":              `free {"analyze":60,"image":3}`,
		"users/full":              `free {"analyze":100}`,
		"users/images":            `free {"image":20}`,
		"users/a%2Fb":             `free {"analyze":45}`,
		"users/spender":           `credits {"image":12,"analyze":13}`,
		"users/saver":             `saver {"analyze":30}`,
		"users/nothing":           `123 {"analyze":7}`,
		"orgs/acme/members/anna":  `team {"analyze":5,"image":1}`,
		"orgs/acme/members/ben":   `team {"analyze":2}`,
		"orgs/acme":               `team {"analyze":8,"image":6}`,
		"orgs/other/members/anna": `team {"analyze":9}`,
	} {
		plan, counts, _ := strings.Cut(text, " ")
		gatewaytest.Administer(t, p, "PUT", "/admin/"+path+"/plan", `{"plan":"`+plan+`"}`)
		for _, period := range []string{"month", "week", "day", "year", "ever"} {
			gatewaytest.Administer(t, p, "PUT", "/admin/"+path+"/counts", `{"per":"`+period+`","endpoints":`+counts+`}`)
		}
	}
	gatewaytest.Administer(t, p, "POST", "/admin/users/a%2Fb/grants", `{"requests":10}`)
	gatewaytest.Administer(t, p, "POST", "/admin/orgs/acme/grants", `{"units":1000,"per":"day"}`)
}

// A checkedAnswer is that of GET /admin/plans/check.
type checkedAnswer struct {
	Plans []struct {
		Name           string
		Users          int
		BlockedNow     int `json:"blocked_now"`
		BlockedThen    int `json:"blocked_then"`
		OnEndpointNow  int `json:"on_endpoint_now"`
		OnEndpointThen int `json:"on_endpoint_then"`
		AboveSoftNow   int `json:"above_soft_now"`
		AboveSoftThen  int `json:"above_soft_then"`
	}
	NewlyBlocked int `json:"newly_blocked"`
	Freed        int
	Users        []struct {
		User, Org, Plan, Limit string
		Used, Of               int64
		Endpoints              []string
	}
	YAML string
}

func checkPlans(t *testing.T, p *gatewaytest.Process, changes ...string) (checked checkedAnswer) {
	t.Helper()
	text := gatewaytest.Administer(t, p, "GET", "/admin/plans/check?"+url.Values{"set": changes}.Encode(), "")
	if err := json.Unmarshal([]byte(text), &checked); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return checked
}

// planCheckOutput returns the rows of metergate plan-check, by plan.
func planCheckOutput(t *testing.T, p *gatewaytest.Process, file string) map[string]string {
	t.Helper()
	code, output := gatewaytest.Run(t, append(os.Environ(), "METERGATE_ADMIN_TOKEN="+gatewaytest.AdminToken), "plan-check", "-config", file, "-admin", p.Admin)
	if code != 0 {
		t.Fatalf("exit status %d: %s", code, output)
	}
	rows := map[string]string{}
	table, _, _ := strings.Cut(output, "\n\n")
	for _, line := range strings.Split(table, "\n")[1:] {
		words := strings.Fields(line)
		rows[words[0]] = strings.Join(words[1:], " ")
	}
	return rows
}

// wantOnlyAmountsChanged checks that two files differ in nothing but the numbers of changed limits.
func wantOnlyAmountsChanged(t *testing.T, before, after string, changes []string) {
	t.Helper()
	amounts := func(file string) (*config.Config, map[string]int64) {
		cfg, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]int64{}
		for name, p := range cfg.Plans {
			for i, limits := range [][]config.Limit{p.Limits, p.Shared} {
				for j := range limits {
					l := &limits[j]
					named := quota.Limit{Period: l.Per, Endpoint: l.Endpoint, Quantity: l.Quantity(), Soft: l.Soft, Shared: i == 1}.Name()
					found[name+"/"+named] = l.Amount()
					l.Line = 0
					if l.Requests != nil {
						*l.Requests = 1
					} else {
						*l.Units = 1
					}
				}
			}
		}
		return cfg, found
	}
	old, was := amounts(before)
	changed, is := amounts(after)
	if diff := cmp.Diff(old.Plans, changed.Plans); diff != "" {
		t.Errorf("more than amounts has changed:\n%s", diff)
	}
	for limit := range was {
		want := fmt.Sprint(limit, "=", was[limit])
		for _, c := range changes {
			if strings.HasPrefix(c, limit+"=") {
				want = c
			}
		}
		if got := fmt.Sprint(limit, "=", is[limit]); got != want {
			t.Errorf("the YAML has %s, want %s", got, want)
		}
	}
}
