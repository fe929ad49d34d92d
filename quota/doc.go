// Package quota is the domain of the gateway: who may use how much, and in which window
// it counts.
//
// # Plans and windows
//
// A [Plan] is a list of limits. A [Limit] allows a number of requests in each [Window],
// to one endpoint or to all of them together. A [Period] is a kind of window, such as the
// month. A [Calendar] says which window of a period contains an instant.
//
// # Reserving and settling
//
// A request is reserved and then settled. Reserve holds one unit in every limit that applies,
// in one atomic step, or in none of them. Later the reservation is settled: Commit turns
// the hold into a count, Release gives it back. A hold that nobody settles ends with its
// lease.
//
//	decision, err := store.Reserve(ctx, quota.Request{ID: quota.NewID(), ...})
//	...                                     // forward the request, look at the status
//	snapshot, err := store.Commit(ctx, &decision.Reservation)
//	usage := snapshot.Usage(user)           // the response to GET /usage
//
// What a request cost may stand at the end of its response. Then Commit counts the request and leaves
// the rest of its units held, and CommitRest settles this rest.
//
// [Store] is the contract of a store. Packages boltstore and redisstore implement it,
// package guard keeps counting while the store does not answer, and package quotatest
// tests all of them with one suite. This package itself is arithmetic: it does no I/O and
// reads no clock.
//
// # Plans of a user
//
// Counts belong to a user, an endpoint and a window, never to a plan: a user whose plan
// changes keeps what was used.
//
// The token of a user claims a plan, and an administrator can override it. Only the store
// knows the [Override]. A request therefore carries a [PlanChoice] with all plans that may
// apply, and the [Snapshot] says which one did.
//
// A plan or a request in observe mode is never refused, see [Request.InObserveMode].
//
// # Administration
//
// A [Change] grants units, resets or sets counts, or overrides a user's plan. Each one is
// recorded as an [AuditEntry].
package quota
