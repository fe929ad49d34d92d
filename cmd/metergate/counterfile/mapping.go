package counterfile

import (
	"errors"
	"fmt"
	"strings"
)

// A Mapping says which attributes of a DynamoDB item have what is to be read.
type Mapping struct {
	user, used, endpoint, org, units, window source
}

// A source is where a value comes from. The zero source is not mapped.
type source struct {
	name  string // of an attribute, which may be a path such as usage.count; or the value itself
	fixed bool   // name is the value
}

func (s source) isZero() bool { return s == source{} }

// MappingForm is how a mapping is written.
const MappingForm = "user=ATTRIBUTE,used=ATTRIBUTE,endpoint=ATTRIBUTE"

// ParseMapping reads a mapping such as user=user_id,used=usage.count,endpoint=@analyze.
func ParseMapping(text string) (*Mapping, error) {
	m := &Mapping{}
	parts := map[string]*source{"user": &m.user, "used": &m.used, "endpoint": &m.endpoint, "org": &m.org, "units": &m.units, "window": &m.window}
	for part := range strings.SplitSeq(text, ",") {
		key, attribute, found := strings.Cut(part, "=")
		to := parts[key]
		switch {
		case !found:
			return nil, fmt.Errorf("%q is not like user=ATTRIBUTE", part)
		case to == nil:
			return nil, fmt.Errorf("there is no %q; it may have user, used, endpoint, org, units and window", key)
		case !to.isZero():
			return nil, fmt.Errorf("%s is there twice", key)
		}
		value, fixed := strings.CutPrefix(attribute, "@")
		switch {
		case value == "":
			return nil, fmt.Errorf("%s has no attribute", key)
		case fixed && key != "endpoint" && key != "org":
			return nil, fmt.Errorf("%s=%s: only endpoint and org can have a value that is the same for all rows", key, attribute)
		}
		*to = source{value, fixed}
	}
	switch {
	case m.user.isZero() && m.org.isZero():
		return nil, errors.New("user is missing; write user=ATTRIBUTE or, if each item is of a whole organisation, org=ATTRIBUTE")
	case m.used.isZero():
		return nil, errors.New("used is missing; write used=ATTRIBUTE")
	}
	return m, nil
}

// ErrNoEndpoint is what is wrong with a mapping without an endpoint, where one is needed.
var ErrNoEndpoint = errors.New("endpoint is missing; write endpoint=ATTRIBUTE or, if all rows are of one endpoint, endpoint=@NAME")

// HasEndpoint reports whether the mapping says what is the endpoint of a row.
func (m *Mapping) HasEndpoint() bool { return !m.endpoint.isZero() }

// HasWindow reports whether rows are of different windows.
func (m *Mapping) HasWindow() bool { return !m.window.isZero() }
