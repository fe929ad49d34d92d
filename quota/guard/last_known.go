package guard

import (
	"time"

	"metergate/quota"
)

// maxLastKnown bounds each of the two maps of a lastKnownCache.
const maxLastKnown = 1024

// lastKnown is what the backend last reported of a user.
type lastKnown struct {
	snapshot quota.Snapshot
	// replayed is what has been counted in the store since by a replay, which returns no
	// snapshot.
	replayed tally
}

// A lastKnownCache has the last known usage of users. It is bounded: when young is full it
// becomes old, and what was old and not used since is dropped. The zero value is empty and
// ready.
type lastKnownCache struct {
	young, old map[string]*lastKnown
}

// get returns what is known of a user, nil if nothing is.
func (c *lastKnownCache) get(user string) *lastKnown {
	if k := c.young[user]; k != nil {
		return k
	}
	k := c.old[user]
	if k != nil {
		delete(c.old, user)
		c.put(user, k)
	}
	return k
}

// put adds what is known of a user.
func (c *lastKnownCache) put(user string, k *lastKnown) {
	if c.young == nil || len(c.young) >= maxLastKnown {
		c.old, c.young = c.young, make(map[string]*lastKnown)
	}
	c.young[user] = k
}

// recordSnapshot records what the store reported of a user. It reports whether less is used than
// before: an administrator has changed it, or the store has lost counts.
func (c *lastKnownCache) recordSnapshot(user string, s *quota.Snapshot) (fell bool) {
	k := c.get(user)
	if k == nil {
		c.put(user, &lastKnown{snapshot: *s})
		return false
	}
	if k.snapshot.At.After(s.At) { // answers can overtake one another
		return false
	}
	before := k.snapshot.Total
	k.snapshot, k.replayed = *s, nil
	return s.Total.Used < before.Used && s.Total.Window.ID == before.Window.ID
}

// override is the user's override that is in force at now, as last known.
func (c *lastKnownCache) override(user string, now time.Time) quota.Override {
	if k := c.get(user); k != nil {
		return k.snapshot.Override.ActiveAt(now)
	}
	return quota.Override{}
}

// terms are the user's terms as last known; of a user of whom nothing is known, those of a new one.
func (c *lastKnownCache) terms(user string, plans quota.PlanChoice, p *quota.Plan, calendar *quota.Calendar, now time.Time) quota.Terms {
	k := c.get(user)
	switch {
	case !plans.Terms:
		return quota.Terms{}
	case k != nil:
		return k.snapshot.Terms
	case plans.Anchor == nil:
		return quota.Terms{}
	}
	return quota.Terms{}.Follow(p, *plans.Anchor, calendar, now, quota.Activity{Reading: true})
}
