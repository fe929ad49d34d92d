// Package guard keeps counting exact while a store does not answer.
//
// A [Store] stands between the gateway and the store that the gateways share. As
// long as that one answers, each call goes through and nothing else happens, but
// that the last known usage of each user is kept. When it does not:
//
//   - A reserve is refused with the store's error, or let through
//     ([Options].AllowOnFailure) as far as the last known usage and the journal permit: a
//     user never seen starts at 0. Attempts are bounded, too, by a bucket of
//     this gateway's own. One that is observed is let through in any case: to observe
//     is to block nothing.
//   - A commit goes to the [Journal], on disk, before it returns. The client may
//     have its 2xx: it will be counted.
//   - A release, and that of a reserve whose answer was lost, is tried again in the
//     background until the lease has run out anyway.
//   - A read answers the last known numbers, as stale. The plan and the grants that an
//     administrator gave hold as last known, too.
//   - An administrator's change fails, with the store's error.
//
// A breaker notices an outage after a few calls, so that the others do not each
// wait for their timeout, and asks the store five times a second whether it is
// back. Then the journal is replayed: in the background for all users, and for one
// who comes first before his next reserve. The store recognises what it has
// counted already by the reservation's id, so that a call whose answer was lost, a
// journal that is replayed twice and a gateway that dies in between all count
// once.
package guard
