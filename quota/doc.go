// Package quota is the domain of the gateway: who may use how much, and in which
// window it counts.
//
// A [Plan] is a list of [Limit]s. A limit allows N requests in each [Window], of
// one endpoint or of all; a [Calendar] says which window an instant lies in. A
// request is counted in two steps. To reserve holds one unit in every limit that
// applies, in one atomic step, or in none. The reservation is then settled: to
// commit turns the hold into a count, to release gives it back. A hold that
// nobody settles ends with its lease.
//
//	decision, err := store.Reserve(ctx, quota.Request{ID: quota.NewID(), ...})
//	...                                     // forward, look at the status
//	snapshot, err := store.Commit(ctx, &decision.Reservation)
//	usage := snapshot.Usage(user)           // what GET /usage answers
//
// The stores are in the packages redisstore and boltstore; quotatest holds both
// to the same rules. Everything in this package itself is arithmetic: no I/O, and
// no clock but the one that is handed in.
//
// A plan or a request that observes is never blocked, see Request.InObserveMode.
//
// Counts belong to user, endpoint and window, not to the plan: a user whose plan
// changes keeps what was used.
//
// An administrator's [Change] grants units, resets or sets what is used, or gives a user
// another plan than the token's. Only the store knows the latter, so that a request
// brings [PlanChoice], the plans that may apply, and the [Snapshot] says which one does.
package quota
