// Package proxy is the public side of the gateway: an [http.Handler] that meters
// what it forwards.
//
// A request goes one way, and [Gateway.ServeHTTP] reads like it:
//
//	CORS → canonical path → route → token → reserve → forward → settle
//
// Reserving holds a unit of the user's quota in the store before anything is
// forwarded. When the upstream's status is known, and before the client sees it,
// the unit is counted (2xx) or given back (anything else). Every error becomes a
// response in one place, problem.go.
package proxy
