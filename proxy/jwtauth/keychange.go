package jwtauth

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/MicahParks/jwkset"
)

const (
	// maxListed bounds how many keys a log line names.
	maxListed = 8
	// maxReasonBytes bounds a reason, which may have a text of the issuer's in it.
	maxReasonBytes = 200
)

// A keyChange says what is new in a response of the key server.
type keyChange struct {
	keys     []jwkset.JWK
	unusable []unusableKey
}

// log writes one line about a successful fetch, or none if it brought no news: c is then nil,
// and recovered false. recovered says that the fetch before failed.
func (c *keyChange) log(log *slog.Logger, recovered bool) {
	const again, changed = "the key server answers again", "the issuer's keys have changed"
	switch {
	case c == nil && recovered:
		log.Info(again)
		return
	case c == nil:
		return
	}
	message := changed
	if recovered {
		message = again + ", and " + changed
	}
	names := make([]string, len(c.keys))
	for i, k := range c.keys {
		names[i] = shownName(k.Marshal().KID)
	}
	if len(c.unusable) == 0 {
		log.Info(message, "kids", shorten(names))
		return
	}
	log.Warn(message+"; some are not used", "kids", shorten(names), "not_used", describeUnusable(c.unusable))
}

// describeUnusable says why keys are not used, without what could break a line.
func describeUnusable(keys []unusableKey) []string {
	texts := make([]string, len(keys))
	for i, k := range keys {
		reason := k.reason.Error()
		reason = strings.ToValidUTF8(reason[:min(len(reason), maxReasonBytes)], "")
		texts[i] = shownName(k.kid) + ": " + reason
	}
	return shorten(texts)
}

// shownName returns a key's name for the log.
func shownName(kid string) string {
	if kid == "" {
		return "(no kid)"
	}
	return kid
}

// shorten returns the first texts of a list, and how many more there are. What could break a
// line is left out.
func shorten(list []string) []string {
	more := len(list) - maxListed
	if more > 0 {
		list = list[:maxListed]
	}
	shown := make([]string, 0, len(list)+1)
	for _, text := range list {
		shown = append(shown, strings.Map(func(r rune) rune {
			if breaksLines(r) {
				return -1
			}
			return r
		}, text))
	}
	if more > 0 {
		shown = append(shown, fmt.Sprintf("and %d more", more))
	}
	return shown
}
