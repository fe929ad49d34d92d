package admin

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"metergate/quota"
)

// grant answers POST /admin/users/{user}/grants.
func (c *call) grant() error {
	query, err := c.query("plan")
	if err != nil {
		return err
	}
	change := quota.Change{Action: quota.ActionGrant}
	err = c.body(true, fields{"requests": &change.Requests, "endpoint": &change.Endpoint, "per": &change.Period, "reason": &change.Reason})
	if err != nil {
		return err
	}
	return c.change(change, query["plan"])
}

// reset answers POST /admin/users/{user}/reset.
func (c *call) reset() error {
	if _, err := c.query(); err != nil {
		return err
	}
	change := quota.Change{Action: quota.ActionReset}
	if err := c.body(false, fields{"reason": &change.Reason}); err != nil {
		return err
	}
	return c.change(change, "")
}

// setPlan answers PUT /admin/users/{user}/plan.
func (c *call) setPlan() error {
	if _, err := c.query(); err != nil {
		return err
	}
	change := quota.Change{Action: quota.ActionSetPlan}
	if err := c.body(true, fields{"plan": &change.Plan, "until": &change.Until, "reason": &change.Reason}); err != nil {
		return err
	}
	if change.Plan == "" {
		return badRequest("body: plan: the name of a plan is needed")
	}
	if err := checkPlan("body: plan", change.Plan, c.Gateway.Terms("")); err != nil {
		return err
	}
	change.Until = change.Until.Truncate(time.Millisecond) // as stores keep it
	if now := c.Clock.Now(); !change.Until.IsZero() && !change.Until.After(now) {
		return unprocessable("body: until: %s is over; the store's clock says %s", change.Until.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return c.change(change, "")
}

// clearPlan answers DELETE /admin/users/{user}/plan.
func (c *call) clearPlan() error {
	// Not in the body: that of a DELETE has no meaning (RFC 9110 section 9.3.5).
	query, err := c.query("reason")
	if err != nil {
		return err
	}
	return c.change(quota.Change{Action: quota.ActionClearPlan, Reason: query["reason"]}, "")
}

// setCounts answers PUT /admin/users/{user}/counts.
func (c *call) setCounts() error {
	if _, err := c.query(); err != nil {
		return err
	}
	change, counts := quota.Change{Action: quota.ActionSetCounts}, counts{}
	if err := c.body(true, fields{"per": &change.Period, "endpoints": &counts, "reason": &change.Reason}); err != nil {
		return err
	}
	change.Counts = counts
	known := c.Gateway.Terms("").Claimed.Endpoints()
	for endpoint, n := range counts {
		// Nobody would ever see it, but in the sum. What there has been can be taken back.
		if n > 0 && !slices.Contains(known, endpoint) {
			return unprocessable("body: endpoints: no route counts under %.80q, there are %s", endpoint, strings.Join(known, ", "))
		}
	}
	return c.change(change, "")
}

// change makes a change and answers with the user's state after it. The plan is the one
// that his token is taken to claim; empty: see terms.
func (c *call) change(change quota.Change, plan string) error {
	var err error
	if change.ID, err = c.idempotencyKey(); err != nil {
		return err
	}
	change.By = c.by()
	if err := change.Validate(c.user); err != nil {
		return err
	}
	t, claimed, err := c.terms(plan)
	if err != nil {
		return err
	}
	s, err := c.Store.ApplyChange(c.r.Context(), c.user, t, change)
	if errors.Is(err, quota.ErrNoSuchLimit) {
		return c.noLimit(change, t)
	}
	if err != nil {
		return err
	}
	return c.show(s, claimed)
}

// noLimit says which limits there are to grant units to.
func (c *call) noLimit(change quota.Change, t quota.PlanChoice) error {
	s, err := c.Store.Read(c.r.Context(), c.user, t)
	if err != nil {
		return err
	}
	wanted := "headline limit (one without an endpoint)"
	if change.Period != 0 {
		wanted = "limit " + quota.Limit{Period: change.Period, Endpoint: change.Endpoint}.Name()
	}
	var limits []string
	for _, l := range s.Plan.Limits() {
		limits = append(limits, l.Name())
	}
	if limits == nil {
		return unprocessable("The user's plan %s has no %s, nor any other.", s.Plan.Name(), wanted)
	}
	return unprocessable("The user's plan %s has no %s. It has %s.", s.Plan.Name(), wanted, strings.Join(limits, ", "))
}

// idempotencyKey is the field's value, with or without the quotation marks of
// draft-ietf-httpapi-idempotency-key-header; empty: there is none.
func (c *call) idempotencyKey() (string, error) {
	values := c.r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	if key == "" || len(values) > 1 {
		return "", badRequest("Idempotency-Key: one key of 1 to 256 printable ASCII characters is wanted")
	}
	return key, nil
}

// maxChange bounds the body of a change, in bytes; counts of quota.MaxCountsPerChange endpoints have less than 16 KiB.
const maxChange = 64 << 10

// body reads the request's body, a JSON object with the given fields. One that is not
// needed may be empty.
func (c *call) body(needed bool, fields fields) error {
	text, err := readBody(c.w, c.r)
	if err != nil || len(text) == 0 && !needed {
		return err
	}
	if err := checkJSONType(c.r.Header.Get("Content-Type")); err != nil {
		return err
	}
	if err := fields.decode(text); err != nil {
		return refusal{http.StatusBadRequest, "body: " + err.Error()}
	}
	return nil
}
