package proxy

import (
	"errors"
	"net/http"
	"strconv"

	"metergate/quota"
)

// A Cost says what the requests of a route are charged, in units. The zero value is one unit.
type Cost struct {
	quota.Cost
	// Header is the header of the upstream's final response that reports the cost, in its
	// canonical form; empty: none does, and each request is charged Max.
	Header string
	// Each is how much of what is reported makes one unit, 1 or more; 0 stands for 1.
	Each int64
	// MissingMin: a response that does not report its cost, or not as one whole number, is charged
	// Min instead of Max.
	MissingMin bool
}

// missing is what a request is charged whose cost is not known.
func (c *Cost) missing() int64 {
	if c.MissingMin {
		return c.Min
	}
	return c.MaxUnits()
}

// isSet reports whether the route has a cost of its own.
func (c *Cost) isSet() bool { return *c != Cost{} }

var (
	errCostMissing   = errors.New("the response does not have the header")
	errCostRepeated  = errors.New("the response has the header more than once")
	errCostMalformed = errors.New("the value is not a whole number, 0 or more")
)

// maxLoggedCost is how much of a cost that is too high is logged, in bytes.
const maxLoggedCost = 32

// charge returns what a successful response is charged that has these values of c.Header, and
// whether it reported more than the most that can be charged. With an error, the response does not
// say what it cost.
func (c *Cost) charge(values []string) (units int64, over bool, err error) {
	if c.Header == "" {
		return c.MaxUnits(), false, nil
	}
	switch len(values) {
	case 0:
		return c.missing(), false, errCostMissing
	case 1:
	default:
		return c.missing(), false, errCostRepeated
	}
	for _, digit := range []byte(values[0]) {
		if digit < '0' || digit > '9' {
			return c.missing(), false, errCostMalformed
		}
	}
	each := max(1, c.Each)
	reported, err := strconv.ParseInt(values[0], 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return c.MaxUnits(), true, nil
	case err != nil: // it is empty
		return c.missing(), false, errCostMalformed
	}
	return c.Charge(reported, each), (reported-1)/each >= c.MaxUnits(), nil
}

// charge works out what the request is charged for a successful response, and records it.
func (x *exchange) charge() {
	cost := &x.route.Cost
	units, over, err := cost.charge(x.forwarding.reportedCost)
	switch {
	case err != nil:
		x.g.metrics.costMissing.WithLabelValues(x.route.Endpoint).Inc()
		x.g.costUnknown.Log("request_id", x.id, "endpoint", x.route.Endpoint, "header", cost.Header, "charged", units, "error", err)
	case over:
		x.g.metrics.costOverMax.WithLabelValues(x.route.Endpoint).Inc()
		x.g.costOverMax.Log("request_id", x.id, "endpoint", x.route.Endpoint, "header", cost.Header,
			"reported", truncate(x.forwarding.reportedCost[0], maxLoggedCost), "each", max(1, cost.Each), "max", units)
	}
	x.reservation.Unused = x.reservation.HeldUnits() - units
}

// reportCost sets the header that says what a metered request was charged, if any route of the
// configuration has a cost.
func (x *exchange) reportCost(h http.Header) {
	if x.g.reportsCost && x.route != nil && x.route.Endpoint != "" {
		h[headerCost] = []string{strconv.FormatInt(x.record.charged, 10)}
	}
}
