// Package proxy is the public side of the gateway: an [http.Handler] that meters what
// it forwards.
//
// Each request goes through these steps; the method serve, in exchange.go, reads like
// this list:
//
//  1. CORS, a canonical path, the route
//  2. a place among the requests in flight
//  3. the user, by the token
//  4. reserve: a unit of the user's quota is held in the store
//  5. forward: the upstream gets the request
//  6. settle: once the upstream's status is known, and before the client sees it, the
//     unit is counted (2xx) or given back (anything else); if the body reports what the request
//     cost, a part of it is settled when the body has ended, see costbody.go
//
// problem.go is the one place where errors become responses. What only the access log
// and the metrics need to know of a request is in a record, in accesslog.go.
package proxy
