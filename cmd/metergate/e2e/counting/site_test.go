package counting

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// faultYAML is a configuration for gateways that are soon killed. The lease of a hold
// is the upstream's timeout plus 10 s.
const faultYAML = `
listen: 127.0.0.1:0
shutdown_timeout: 20s
admin: { listen: 127.0.0.1:0 }
store: { url: "${STORE}", on_failure: "${ON_FAILURE:-deny}", timeout: "${STORE_TIMEOUT:-10s}" }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256] } }
history: { keep: 35d }
default_plan: twenty
plans:
  twenty:    { limits: [{ requests: 20, per: month }] }
  low:       { limits: [{ requests: 300, per: month }] }
  minutes:   { limits: [{ requests: 100000, per: month }, { requests: 60, per: minute }, { requests: 30, per: minute, endpoint: image-analysis }] }
  high:      { limits: [{ requests: 1000000, per: month }, { requests: 1000000, per: day, endpoint: analyze }, { units: 10, per: day, mode: observe }] }
  unlimited: { limits: [] }
  units:     { limits: [{ units: 20, per: month }], concurrent: 100 }
  credits:   { limits: [{ units: 300, per: month }, { units: 10, per: day, mode: observe }] }
  few:       { concurrent: { requests: 2, wait: 300ms } }
upstreams:
  analysis: { targets: [{ url: "${UPSTREAM}" }], timeout: "${UPSTREAM_TIMEOUT:-2s}" }
routes:
  - { match: "POST /api/analyze",        endpoint: analyze,        upstream: analysis }
  - { match: "POST /api/image-analysis", endpoint: image-analysis, upstream: analysis }
  - { match: "POST /api/report",         endpoint: report,         upstream: analysis, cost: { max: 5, from: header X-Cost } }
log: { level: info }
`

// A site is where one gateway runs at a time. Its folder, with the configuration and the
// journal, outlives the processes.
type site struct {
	t    *testing.T
	file string
	env  []string
	now  atomic.Pointer[gatewaytest.Process]
}

func newSite(t *testing.T, store, upstream string, env ...string) *site {
	t.Helper()
	s := &site{t: t, file: filepath.Join(t.TempDir(), "gateway.yaml"),
		env: append([]string{"STORE=" + store, "UPSTREAM=" + upstream}, env...)}
	testkit.WriteFile(t, s.file, faultYAML)
	s.start()
	return s
}

// start runs the gateway of the site. The one before it must have ended.
func (s *site) start() *gatewaytest.Process {
	s.t.Helper()
	p := gatewaytest.Start(s.t, s.env, "serve", "-config", s.file)
	p.WaitUntilServing()
	s.now.Store(p)
	return p
}

// hashOf returns all fields that Redis has for a user.
func hashOf(t *testing.T, redisAddr, user string) map[string]string {
	t.Helper()
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: redisAddr, ReadTimeout: 30 * time.Second})
	defer client.Close()
	keys, err := client.Keys(ctx, "metergate:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if client.HGet(ctx, key, "user").Val() == user {
			all, err := client.HGetAll(ctx, key).Result()
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
	}
	return nil
}

// anyGateway chooses the gateway that now runs at one of the sites.
func anyGateway(sites ...*site) func(*rand.Rand) string {
	return func(random *rand.Rand) string { return sites[random.IntN(len(sites))].now.Load().URL }
}
