package admin

import (
	"encoding/json"
	"strings"
	"time"

	"metergate/quota"
)

// anchorText is an anchor in a request: a text, or a day as a number.
type anchorText string

func (a *anchorText) UnmarshalJSON(text []byte) error {
	var number json.Number
	if err := json.Unmarshal(text, &number); err == nil && text[0] != '"' {
		*a = anchorText(number)
		return nil
	}
	return json.Unmarshal(text, (*string)(a))
}

// putAnchor serves PUT /admin/users/{user}/anchor.
func (c *userRequest) putAnchor() error {
	if _, err := c.queryParams(); err != nil {
		return err
	}
	change, anchor := quota.Change{Action: quota.ActionSetAnchor}, anchorText("")
	if err := c.decodeBody(true, members{"anchor": &anchor, "reason": &change.Reason}); err != nil {
		return err
	}
	if !c.hasAnchors() {
		return unprocessable("The configuration does not let months begin on other days. Add anchor: calendar, claim or first_use to a plan, reload, and try again.")
	}
	change.Anchor = string(anchor)
	return c.applyChange(change, "")
}

// deleteAnchor serves DELETE /admin/users/{user}/anchor.
func (c *userRequest) deleteAnchor() error {
	query, err := c.queryParams("reason")
	if err != nil {
		return err
	}
	return c.applyChange(quota.Change{Action: quota.ActionClearAnchor, Reason: query["reason"]}, "")
}

// hasAnchors reports whether accounts can have windows of their own.
func (c *userRequest) hasAnchors() bool { return c.Gateway.PlansFor("").Terms }

// An anchorObject says on which day the months and years of a user begin.
type anchorObject struct {
	Day   int        `json:"day"`
	Month int        `json:"month,omitempty"` // in which years begin; left out: January
	From  *time.Time `json:"from,omitempty"`  // when it begins to hold for months; left out: it does
	Set   bool       `json:"set"`             // an administrator has set it
}

// anchorObject returns the anchor of the account in a state; nil: the configuration has none.
func (c *userRequest) anchorObject(s quota.Snapshot) *anchorObject {
	if !c.hasAnchors() {
		return nil
	}
	a, from := s.Terms.Anchor(), s.Terms.AnchorFrom()
	object := &anchorObject{Day: max(1, a.Day)}
	if a.Month > time.January {
		object.Month = int(a.Month)
	}
	if from.After(s.At) {
		object.From = &from
	}
	_, object.Set = s.Terms.FixedAnchor()
	return object
}

// instantOf returns the period of the window with an id, and an instant that is in it. own: the id is
// that of a month or year that begins on a user's own day, and only the store can tell whether
// there is such a window.
func (c *userRequest) instantOf(id string) (per quota.Period, at time.Time, own bool, err error) {
	id = strings.ReplaceAll(id, " ", "+") // in a query a plus sign arrives as a space
	if c.hasAnchors() {
		if per, at, own = c.Calendar.OwnWindow(id); own {
			return per, at, true, nil
		}
	}
	w, err := c.Calendar.WindowByID(id)
	if err != nil {
		return 0, at, false, badRequest("at: %v", err)
	}
	if c.hasAnchors() && (w.Period == quota.Month || w.Period == quota.Year) {
		// Of the users' own windows it is the one that begins in this month or year.
		return w.Period, w.End.Add(-time.Second), false, nil
	}
	return w.Period, w.Start, false, nil
}
