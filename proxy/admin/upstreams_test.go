package admin_test

import (
	"encoding/json"
	"strings"
	"testing"

	"metergate/proxy/admin"
)

// upstreams is one upstream, api, with two targets, and one of weight 0.
type upstreams struct {
	drained map[string]*admin.TargetDrain // by URL
}

func (u *upstreams) List() []admin.Upstream {
	return []admin.Upstream{{Name: "api", Balance: "round_robin", Timeout: "2m0s", YAML: "upstreams:\n", Targets: []admin.UpstreamTarget{
		{URL: "http://10.0.0.1", Weight: 1, Healthy: true, Drained: u.drained["http://10.0.0.1"]},
		{URL: "http://10.0.0.2", Weight: 1, Share: 1, Healthy: true, Drained: u.drained["http://10.0.0.2"]},
		{URL: "http://10.0.0.3", Healthy: true},
	}}}
}

func (u *upstreams) SetDrained(upstream, url string, drained bool, by admin.TargetDrain) (admin.Upstream, bool, error) {
	if upstream != "api" {
		return admin.Upstream{}, false, admin.ErrNoUpstream
	}
	switch _, is := u.drained[url]; {
	case url != "http://10.0.0.1" && url != "http://10.0.0.2":
		return u.List()[0], false, admin.ErrNoTarget
	case is == drained:
		return u.List()[0], false, nil
	case drained && len(u.drained) == 1:
		return u.List()[0], false, admin.ErrLastTarget
	case drained:
		u.drained = map[string]*admin.TargetDrain{url: &by}
	default:
		delete(u.drained, url)
	}
	return u.List()[0], true, nil
}

func TestUpstreamsAreShownAndDrained(t *testing.T) {
	r := newTestAPI(t)
	const drain, undrain = "/admin/upstreams/api/drain", "/admin/upstreams/api/undrain"
	audit := func(action, detail, reason, outcome string) {
		t.Helper()
		if e := r.entries("/admin/audit")[0]; e.Action != action || e.Detail != detail || e.Reason != reason || !strings.HasPrefix(e.Outcome, outcome) {
			t.Errorf("entry %+v, want %s, %q, %q, %s", e, action, detail, reason, outcome)
		}
	}
	_, _, before := r.do("GET", "/admin/upstreams", "")
	var list struct{ Upstreams []admin.Upstream }
	if err := json.Unmarshal([]byte(before), &list); err != nil || len(list.Upstreams) != 1 || len(list.Upstreams[0].Targets) != 3 {
		t.Fatalf("%v: %s", err, before)
	}
	for _, member := range []string{`"ejected_until":null`, `"drained":null`, `"check_error":""`, `"in_flight":0`, `"share":1`} {
		if !strings.Contains(before, member) {
			t.Errorf("no %s in %s", member, before)
		}
	}

	_, _, text := r.do("POST", drain, `{"url":"http://10.0.0.1","reason":"new kernel"}`)
	var u admin.Upstream
	if err := json.Unmarshal([]byte(text), &u); err != nil || u.Targets[0].Drained == nil || u.Targets[0].Drained.Reason != "new kernel" ||
		u.Targets[0].Drained.From != "127.0.0.1" || u.Targets[0].Drained.Since.IsZero() || u.YAML == "" {
		t.Errorf("drain: %v %s", err, text)
	}
	audit("drain", "http://10.0.0.1 of api", "new kernel", "done")
	r.ok("POST", drain, `{"url":"http://10.0.0.1"}`)
	audit("drain", "http://10.0.0.1 of api, which was drained already", "", "done")
	r.refused(409, "http://10.0.0.2 is not drained, because no other target of api is healthy, not ejected and not drained. Undrain or add one first.", "POST", drain, `{"url":"http://10.0.0.2"}`)
	audit("drain", "http://10.0.0.2 of api", "", "refused: http://10.0.0.2 is not drained")
	r.ok("POST", undrain, `{"url":"http://10.0.0.1","reason":"done"}`)
	audit("undrain", "http://10.0.0.1 of api", "done", "done")
	r.ok("POST", undrain, `{"url":"http://10.0.0.1"}`)
	audit("undrain", "http://10.0.0.1 of api, which was not drained", "", "done")

	r.refused(404, `The configuration has no upstream "apj"; the only upstream is api.`, "POST", "/admin/upstreams/apj/drain", `{"url":"http://10.0.0.1"}`)
	r.refused(422, `body: url: upstream api has no target "http://10.0.0.3" that gets requests; the targets are http://10.0.0.1, http://10.0.0.2.`, "POST", drain, `{"url":"http://10.0.0.3"}`)
	r.refused(400, "body: url: the URL of a target is required", "POST", drain, `{}`)
	r.refused(400, "body: unknown member", "POST", drain, `{"target":"http://10.0.0.1"}`)
	r.refused(400, "body: reason: must be at most", "POST", drain, `{"url":"http://10.0.0.1","reason":"a\nb"}`)
	r.refused(400, "query: unknown parameter", "POST", drain+"?url=x", `{"url":"http://10.0.0.1"}`)
}
