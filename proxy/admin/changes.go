package admin

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"metergate/quota"
)

// postGrant serves POST /admin/users/{user}/grants.
func (c *userRequest) postGrant() error {
	query, err := c.queryParams("plan")
	if err != nil {
		return err
	}
	change := quota.Change{Action: quota.ActionGrant}
	err = c.decodeBody(true, members{"requests": &change.Requests, "units": &change.Units, "endpoint": &change.Endpoint, "per": &change.Period, "reason": &change.Reason})
	if err != nil {
		return err
	}
	return c.applyChange(change, query["plan"])
}

// postReset serves POST /admin/users/{user}/reset.
func (c *userRequest) postReset() error {
	if _, err := c.queryParams(); err != nil {
		return err
	}
	change := quota.Change{Action: quota.ActionReset}
	if err := c.decodeBody(false, members{"reason": &change.Reason}); err != nil {
		return err
	}
	return c.applyChange(change, "")
}

// putPlan serves PUT /admin/users/{user}/plan.
func (c *userRequest) putPlan() error {
	if _, err := c.queryParams(); err != nil {
		return err
	}
	change := quota.Change{Action: quota.ActionSetPlan}
	if err := c.decodeBody(true, members{"plan": &change.Plan, "until": &change.Until, "reason": &change.Reason}); err != nil {
		return err
	}
	if change.Plan == "" {
		return badRequest("body: plan: the name of a plan is required")
	}
	if err := checkPlanExists("body: plan", change.Plan, c.Gateway.PlansFor("")); err != nil {
		return err
	}
	change.Until = change.Until.Truncate(time.Millisecond) // the precision of the stores
	if now := c.Clock.Now(); !change.Until.IsZero() && !change.Until.After(now) {
		return unprocessable("body: until: must be in the future, got %s; the store's clock says %s", change.Until.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return c.applyChange(change, "")
}

// deletePlan serves DELETE /admin/users/{user}/plan.
func (c *userRequest) deletePlan() error {
	// The reason is not in the body, because the body of a DELETE has no meaning (RFC 9110
	// section 9.3.5).
	query, err := c.queryParams("reason")
	if err != nil {
		return err
	}
	return c.applyChange(quota.Change{Action: quota.ActionClearPlan, Reason: query["reason"]}, "")
}

// putCounts serves PUT /admin/users/{user}/counts.
func (c *userRequest) putCounts() error {
	if _, err := c.queryParams(); err != nil {
		return err
	}
	change, counts, units := quota.Change{Action: quota.ActionSetCounts}, endpointCounts{}, endpointCounts(nil)
	if err := c.decodeBody(true, members{"per": &change.Period, "endpoints": &counts, "units": &units, "reason": &change.Reason}); err != nil {
		return err
	}
	change.Counts, change.CountUnits = counts, units
	known := c.Gateway.PlansFor("").Claimed.Endpoints()
	for endpoint, n := range counts {
		// Such a count would show only in the sum. Setting one to 0 is allowed: the endpoint
		// may have existed before.
		if n > 0 && !slices.Contains(known, endpoint) {
			return unknownEndpoint("body: endpoints", endpoint, known)
		}
	}
	return c.applyChange(change, "")
}

// applyChange makes a change and answers with the user's state after it. plan is the plan
// that the user's token is assumed to claim; empty: see userPlans.
func (c *userRequest) applyChange(change quota.Change, plan string) error {
	var err error
	if change.ID, err = c.idempotencyKey(); err != nil {
		return err
	}
	change.By = remoteHost(c.r)
	if err := change.Validate(c.account); err != nil {
		return err
	}
	plans, claimed, err := c.userPlans(plan)
	if err != nil {
		return err
	}
	s, err := c.Store.ApplyChange(c.r.Context(), c.account, plans, change)
	if errors.Is(err, quota.ErrNoSuchLimit) {
		return c.noSuchLimit(change, plans)
	}
	if err != nil {
		return err
	}
	return c.writeUser(s, claimed)
}

// noSuchLimit returns an error that lists the limits that units can be granted to.
func (c *userRequest) noSuchLimit(change quota.Change, plans quota.PlanChoice) error {
	if change.Endpoint != "" {
		if known := plans.Claimed.Endpoints(); !slices.Contains(known, change.Endpoint) {
			return unknownEndpoint("body: endpoint", change.Endpoint, known)
		}
	}
	s, err := c.Store.Read(c.r.Context(), c.account, plans)
	if err != nil {
		return err
	}
	wanted := "headline limit (one without an endpoint)"
	if change.Quantity() == quota.Units {
		wanted = "limit on units without an endpoint"
	}
	if change.Period != 0 {
		wanted = "limit " + quota.Limit{Period: change.Period, Endpoint: change.Endpoint, Quantity: change.Quantity()}.Name()
	}
	whose, shared := "The user's plan "+s.Plan.Name(), plans.Scope == quota.PoolScope
	if shared {
		whose, wanted = "The organisation's plan "+s.Plan.Name(), "shared "+wanted
	}
	var limits []string
	for _, l := range s.Plan.Limits() {
		if l.Shared == shared {
			limits = append(limits, l.Name())
		}
	}
	if limits == nil {
		return unprocessable("%s has no %s, and no other limit.", whose, wanted)
	}
	return unprocessable("%s has no %s. It has %s.", whose, wanted, strings.Join(limits, ", "))
}

// unknownEndpoint is the error for an endpoint that no route has.
func unknownEndpoint(where, endpoint string, known []string) error {
	return unprocessable("%s: no route counts under %.80q; %s", where, endpoint, quota.ListNames("endpoint", known))
}

// idempotencyKey returns the header's value, without the quotation marks that
// draft-ietf-httpapi-idempotency-key-header requires and clients omit; empty: no header.
func (c *userRequest) idempotencyKey() (string, error) {
	values := c.r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	if key == "" || len(values) > 1 {
		return "", badRequest("Idempotency-Key: must be one key of 1 to 256 printable ASCII characters")
	}
	return key, nil
}

// maxChangeBytes bounds the body of a change. The counts of quota.MaxCountsPerChange
// endpoints take less than 16 KiB.
const maxChangeBytes = 64 << 10

// decodeBody reads the request's body, a JSON object with the given members. Unless it is
// required, the body may be empty.
func (c *userRequest) decodeBody(required bool, targets members) error {
	text, err := readBody(c.w, c.r)
	if err != nil || len(text) == 0 && !required {
		return err
	}
	if err := checkContentType(c.r.Header.Get("Content-Type"), "application/json"); err != nil {
		return err
	}
	if err := targets.decode(text); err != nil {
		return requestError{status: http.StatusBadRequest, detail: "body: " + err.Error()}
	}
	return nil
}
