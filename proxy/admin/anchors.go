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
	a, from := s.Terms.Anchor(), s.Terms.AnchorFrom(c.Calendar)
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

// windowByID returns the window that has an id in the calendar, or only for some users: a month or
// year that begins on a day of their own. Only the store can tell whether a user has that one.
//
// A month or year of a user's own belongs to the month or year of the calendar in which it begins.
// So each is in one, and a change of anchor can make it two in one. A list has both, and the object
// of a user has the later one, or the one that is running.
func (c *userRequest) windowByID(id string) (w wantedWindow, err error) {
	id = strings.ReplaceAll(id, " ", "+") // in a query a plus sign arrives as a space
	if c.hasAnchors() {
		if per, at, own := c.Calendar.OwnWindow(id); own {
			return wantedWindow{per: per, at: at, own: id}, nil
		}
	}
	calendar, err := c.Calendar.WindowByID(id)
	if err != nil {
		return w, badRequest("at: %v", err)
	}
	w = wantedWindow{per: calendar.Period, at: calendar.Start, calendar: calendar}
	if c.hasAnchors() && (w.per == quota.Month || w.per == quota.Year) {
		w.at = calendar.End.Add(-time.Second)
		if now := c.Clock.Now(); calendar.Contains(now) {
			w.at = now
		}
	}
	return w, nil
}
