package quota

// MaxRequests is the largest limit and the largest count. It keeps the arithmetic exact
// in stores that compute with 53 bits, such as Redis's Lua.
const MaxRequests = 1_000_000_000_000

// A Limit allows a number of requests in each window of a period, to one endpoint or to
// all of them together. A limit of 0 allows no request.
type Limit struct {
	Requests int64 // 0 to MaxRequests
	Period   Period
	Endpoint string // empty: all endpoints together
}

// Name identifies the limit within its plan: "month", "image-analysis-month".
func (l Limit) Name() string {
	if l.Endpoint == "" {
		return l.Period.String()
	}
	return l.Endpoint + "-" + l.Period.String()
}

// AppliesTo reports whether a request to endpoint counts towards the limit. An empty
// endpoint stands for a request to one that has no limit of its own.
func (l Limit) AppliesTo(endpoint string) bool { return l.Endpoint == "" || l.Endpoint == endpoint }

// A Counter identifies a number that a store keeps for each user and each window of a
// period: the requests to one endpoint or, with an empty Endpoint, to all.
type Counter struct {
	Period   Period
	Endpoint string
}
