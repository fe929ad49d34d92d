package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"metergate/proxy/admin"
	"metergate/quota"
)

// A brokenStore fails; its list fails after some users.
type brokenStore struct {
	admin.Store
	listed int
}

var errDown = errors.New("down")

func (s brokenStore) Read(context.Context, string, quota.PlanChoice) (quota.Snapshot, error) {
	return quota.Snapshot{}, errDown
}
func (s brokenStore) ClaimedPlan(context.Context, string) (string, error) { return "", nil }
func (s brokenStore) ApplyChange(context.Context, string, quota.PlanChoice, quota.Change) (quota.Snapshot, error) {
	return quota.Snapshot{}, errDown
}
func (s brokenStore) AuditLog(context.Context, string) ([]quota.AuditEntry, error) {
	return nil, errDown
}
func (s brokenStore) ScanUsers(_ context.Context, _ quota.WindowQuery, yield func(quota.UserUsage) error) error {
	for i := range s.listed {
		if err := yield(quota.UserUsage{User: fmt.Sprint(i), Used: 1, Endpoints: map[string]int64{"analyze": 1}}); err != nil {
			return err
		}
	}
	return errDown
}

// If the store does not answer, the status is 503. A list that fails halfway ends with an
// aborted connection, so that nobody mistakes it for a whole one.
func TestStoreOutage(t *testing.T) {
	r := newTestAPI(t, func(o *admin.Options) { o.Store = brokenStore{Store: o.Store} })
	for _, path := range []string{"/admin/users/u", "/admin/users/u/audit", "/admin/users", "/admin/users?format=csv"} {
		r.refused(503, "The store does not answer. Try again", "GET", path, "")
	}
	r.refused(503, "may have been made", "POST", "/admin/users/u/grants", `{"requests":5}`)
	if _, header, text := r.do("GET", "/admin/users/u", ""); header.Get("Retry-After") != "1" || strings.Contains(text, errDown.Error()) {
		t.Errorf("%v %s", header, text)
	}
	for _, format := range []string{"csv", "jsonl"} {
		r := newTestAPI(t, func(o *admin.Options) { o.Store = brokenStore{o.Store, 3} })
		req, _ := http.NewRequest("GET", r.url+"/admin/users?format="+format, nil)
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			continue // nothing had been sent yet
		}
		defer res.Body.Close()
		if text, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%s: the list ends well after %q", format, text)
		}
	}
}
