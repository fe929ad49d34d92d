// Package guard keeps counting exact while a store does not answer.
//
// A [Store] stands between the gateway and the store that all gateways share, its
// [Backend]. As long as the backend answers, every call goes through to it, and the
// guard only remembers the last known usage of each user. During an outage:
//
//   - A reserve fails with the store's error, or is admitted unchecked
//     ([Options].AllowOnFailure) as far as the last known usage and the journal permit. A
//     user who was never seen starts at 0. Attempts are bounded as well, by token buckets
//     of this gateway. In observe mode every request is admitted.
//   - A commit is written to the [Journal], on disk, before it returns. The client may
//     have its 2xx: the request will be counted.
//   - So is the commit of the rest of a request that is settled in two steps. If its first step had
//     to wait, the second waits behind it.
//   - A release, and the release of a reserve whose answer was lost, is retried in the
//     background until the lease has run out anyway.
//   - A history is the last known one, and what was counted here since. Of an account that was not asked
//     for on this day, it is the store's error: a chart of zeros would be wrong.
//   - A read returns the last known numbers, marked as stale. The plan that an administrator
//     has set and the units that were granted apply as last known.
//   - An administrator's change fails with the store's error. Nothing of it is kept.
//   - What a count has crossed, see quota.Crossing, is recorded when the count is replayed: by the plan that
//     the user's token claimed. The notifications that wait in the store go out when it is back.
//
// # How an outage begins and ends
//
// Each partition of the backend has a circuit breaker. It is closed at first. Five
// failures in a row open it, and then no call waits for a timeout any more. So does a failed
// check: the backend is checked every few seconds and whenever it was connected to. An open breaker
// asks the store five times a second, with one probe at a time, as in the half-open state of
// other circuit breakers. A probe does what requests do, on data of the gateway's own. One that
// succeeds closes the breaker.
//
// # How nothing is lost or counted twice
//
// Settlements that wait for the store are in the journal or in the outbox, which is in
// memory. When the store is back they are sent: in the background for all users, and for
// one user immediately before the user's next reserve, together with those of all members of the user's
// organisation that count in its pool. The store recognises by its ID what it has already counted. So a commit whose answer was lost, a journal that is replayed twice
// and a gateway that dies in between all count once.
package guard
