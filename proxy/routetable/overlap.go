package routetable

import "metergate/proxy/urlpath"

// An Overlap is how the paths that an upstream gets from two routes relate.
type Overlap int

const (
	// Apart: the upstream gets no path, or nearly the same path, from both routes; or the
	// first one is more specific, so it was written for these paths.
	Apart Overlap = iota
	// Together: both lead to the same paths, or nearly the same, and neither is more specific.
	Together
	// Within: the second one is more specific, so its paths are taken out of the first one's.
	Within
)

// OverlapBehind compares two patterns as the upstream sees them: after strip and otherStrip
// were cut off.
func OverlapBehind(pattern, strip, other, otherStrip string) Overlap {
	_, _, path := urlpath.SplitPattern(pattern)
	_, _, otherPath := urlpath.SplitPattern(other)
	_, path = urlpath.CutPrefix(path, strip)
	_, otherPath = urlpath.CutPrefix(otherPath, otherStrip)
	p, o := segmentsOf(path), segmentsOf(otherPath)
	if !mayMatchTogether(pattern, other) || !mayBeNear(p, o, true) {
		return Apart
	}
	switch covers, covered := covers(p, o), covers(o, p); {
	case covers && !covered:
		return Within
	case covered && !covers:
		return Apart
	}
	return Together
}

// covers reports whether p matches every path that other matches.
func covers(p, other []segment) bool {
	for i, s := range p {
		switch {
		case s.kind == rest:
			return i < len(other)
		case i == len(other) || other[i].kind == rest:
			return false
		case s.kind != wildcard && (s.kind != other[i].kind || urlpath.DecodeSegment(s.text) != urlpath.DecodeSegment(other[i].text)):
			return false
		case s.kind == wildcard && other[i].kind == slashOnly:
			return false
		}
	}
	return len(p) == len(other)
}
