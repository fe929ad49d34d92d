package app

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"metergate/config"
	"metergate/quota/testkit"
)

// ask sends a request with a token. The body of its answer is a JSON object; empty: it has none.
func ask(t *testing.T, method, url, token string) (status int, body map[string]any) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && len(text) > 0 {
		err = json.Unmarshal(text, &body)
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", res.Status, err, text)
	}
	return res.StatusCode, body
}

// A plan's own upgrade_url replaces the one for all plans wherever that shows. A reload changes
// both. Without them, answers have no URL.
func TestPlanHasItsOwnUpgradeURL(t *testing.T) {
	const plans = `
default_plan: free
upgrade_url: https://example.com/pricing
plans:
  free: { limits: [{ requests: 0, per: month }], upgrade_url: "https://example.com/start" }
  pro: { limits: [{ requests: 1, per: month }] }
`
	s := settings{upstream: newTarget(t).URL, limit: 1}
	before, after, _ := strings.Cut(s.yaml(), "default_plan")
	_, after, _ = strings.Cut(after, "\nupstreams")
	withPlans := func(plans string) string { return before + plans + "\nupstreams" + after }
	dir := t.TempDir()
	wanted := parse(t, dir, withPlans(plans))
	a := New(Options{Config: wanted, Log: quiet(), Load: func() (*config.Config, []string, error) { return wanted, nil, nil }})
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer a.Stop()
	url := "http://" + a.PublicAddr().String()
	if status, _ := ask(t, "POST", url+"/api/", testkit.Token("u", "pro")); status != 200 {
		t.Fatalf("the first request: %d", status)
	}
	check := func(what string, want map[string]any) {
		t.Helper()
		for plan, url := range map[string]string{"free": url, "pro": url} {
			for request, status := range map[string]int{"GET /usage": 200, "POST /usage/track": 200, "POST /api/": map[string]int{"free": 403, "pro": 429}[plan]} {
				method, path, _ := strings.Cut(request, " ")
				if got, body := ask(t, method, url+path, testkit.Token("u", plan)); got != status || body["upgrade_url"] != want[plan] {
					t.Errorf("%s, plan %s: %s: %d with the URL %v, want %d and %v", what, plan, request, got, body["upgrade_url"], status, want[plan])
				}
			}
		}
	}
	check("at the start", map[string]any{"free": "https://example.com/start", "pro": "https://example.com/pricing"})
	for text, want := range map[string]map[string]any{
		strings.Replace(plans, "upgrade_url: https://example.com/pricing\n", "", 1): {"free": "https://example.com/start"},
		strings.Replace(plans, "/start", "/other", 1):                               {"free": "https://example.com/other", "pro": "https://example.com/pricing"},
	} {
		wanted = parse(t, dir, withPlans(text))
		if _, err := a.Reload(); err != nil {
			t.Fatal(err)
		}
		check("after a reload", want)
	}
}

// The history is kept for as long as the configuration said at the start, also after a reload.
func TestHistoryIsKeptAsConfigured(t *testing.T) {
	dir := t.TempDir()
	text := settings{upstream: newTarget(t).URL, limit: 100, more: "timezone: Europe/Berlin"}.yaml()
	wanted := parse(t, dir, text+"\nhistory: { keep: 7d }")
	a := New(Options{Config: wanted, Log: quiet(), Load: func() (*config.Config, []string, error) { return wanted, nil, nil }})
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer a.Stop()
	url, token := "http://"+a.PublicAddr().String(), testkit.Token("u", "")
	for _, more := range []string{"\nhistory: { keep: 7d }", "\nhistory: { keep: 35d }", ""} {
		wanted = parse(t, dir, text+more)
		if _, err := a.Reload(); err != nil {
			t.Fatal(err)
		}
		if status, _ := ask(t, "POST", url+"/api/", token); status != 200 {
			t.Fatalf("a request: %d", status)
		}
		status, history := ask(t, "GET", url+"/usage/history", token)
		if days, _ := history["days"].([]any); status != 200 || len(days) != 7 || history["timezone"] != "Europe/Berlin" {
			t.Errorf("after a reload with %q: %d %v", more, status, history)
		}
		if status, _ := ask(t, "GET", url+"/usage/history?days=8", token); status != 400 {
			t.Errorf("eight days after a reload with %q: %d", more, status)
		}
	}
	_, history := ask(t, "GET", url+"/usage/history", token)
	var used float64
	for _, day := range history["days"].([]any) {
		used += day.(map[string]any)["used"].(float64) // midnight may have passed
	}
	_, usage := ask(t, "GET", url+"/usage", token)
	if forecast, ok := usage["exhausts_at"]; used != 3 || usage["used"] != 3.0 || !ok || forecast != nil {
		t.Errorf("the history is %v, the usage %v", history, usage)
	}
}
