package proxy

import (
	"errors"
	"math"
	"net/http"
	"strconv"

	"metergate/proxy/reported"
	"metergate/quota"
)

// A Cost says what the requests of a route are charged, in units. The zero value is one unit.
type Cost struct {
	quota.Cost
	// Header is the header of the upstream's final response that reports the cost, in its
	// canonical form; empty: none does.
	Header string
	// Path leads to the number in the response's body that reports the cost; the zero value: none
	// does. Only without a Header. Without both, each request is charged Max.
	Path reported.Path
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

// isReported reports whether responses say what their requests cost.
func (c *Cost) isReported() bool { return c.Header != "" || c.isInBody() }

// isInBody reports whether the bodies of responses say what their requests cost.
func (c *Cost) isInBody() bool { return c.Path != reported.Path{} }

var (
	errCostMissing   = errors.New("the response does not have the header")
	errCostRepeated  = errors.New("the response has the header more than once")
	errCostMalformed = errors.New("the value is not a whole number, 0 or more")
)

// inHeader reads what the values of c.Header report.
func (c *Cost) inHeader(values []string) (amount int64, err error) {
	switch len(values) {
	case 0:
		return 0, errCostMissing
	case 1:
	default:
		return 0, errCostRepeated
	}
	for _, digit := range []byte(values[0]) {
		if digit < '0' || digit > '9' {
			return 0, errCostMalformed
		}
	}
	amount, err = strconv.ParseInt(values[0], 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // it is empty
		return 0, errCostMalformed
	}
	return amount, nil // the highest number, if it is out of range
}

// charge works out what a successful request is charged, and records it. If its response's body
// reports the cost, Min is charged for now, and the rest stays held until the body has ended.
func (x *exchange) charge(res *http.Response) {
	cost, r := &x.route.Cost, &x.reservation
	switch {
	case cost.Header != "":
		r.Unused = r.HeldUnits() - x.price(cost.inHeader(x.forwarding.costHeader))
	case cost.isInBody() && cost.Min < cost.MaxUnits():
		if err := x.forwarding.readCost(res); err != nil {
			r.Unused = r.HeldUnits() - x.price(0, err)
			return
		}
		r.Unused = r.HeldUnits() - cost.Min
		r.Rest, r.RestCharged = r.Unused, cost.missing()-cost.Min // if the body's end is not seen
	}
}

// price returns what a successful response is charged that has reported an amount. With an error it
// has not. Both that, and an amount above the most that can be charged, are recorded.
func (x *exchange) price(amount int64, err error) (units int64) {
	cost, endpoint := &x.route.Cost, x.route.Endpoint
	key, name := "header", cost.Header
	if cost.isInBody() {
		key, name = "json", cost.Path.String()
	}
	if err != nil {
		units = cost.missing()
		x.g.metrics.costMissing.WithLabelValues(endpoint).Inc()
		x.g.costUnknown.Log("request_id", x.id, "endpoint", endpoint, key, name, "charged", units, "error", err)
		return units
	}
	each := max(1, cost.Each)
	if amount == math.MaxInt64 || (amount-1)/each >= cost.MaxUnits() {
		x.g.metrics.costOverMax.WithLabelValues(endpoint).Inc()
		x.g.costOverMax.Log("request_id", x.id, "endpoint", endpoint, key, name, "reported", amount, "each", each, "max", cost.MaxUnits())
	}
	return cost.Charge(amount, each)
}

// reportCost sets the headers that say what a metered request has been charged so far, and what it may
// be charged beyond that at its end, if any route of the configuration has a cost.
func (x *exchange) reportCost(h http.Header) {
	if x.g.reportsCost && x.route != nil && x.route.Endpoint != "" {
		h[headerCost] = []string{strconv.FormatInt(x.record.charged, 10)}
		if x.restHeld {
			h[headerPending] = []string{strconv.FormatInt(x.reservation.RestUnits(), 10)}
		}
	}
}
