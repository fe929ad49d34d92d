package quota

import (
	"context"
	"time"
)

// A Store keeps what users have used and what they hold. Packages boltstore and
// redisstore have one each. Package guard wraps either and keeps counting while it
// does not answer. Packages that need less declare a narrow interface of some of
// these methods; this is the contract for all of them.
//
// The following holds for every method:
//
//   - A Store MUST be safe for concurrent use by many goroutines and, where it is
//     shared, by many gateways.
//   - It MUST decide by its own clock, never by the caller's.
//   - After a call that returned without an error, every later call of any gateway
//     MUST see its effect.
//   - It MUST neither change nor keep the Request or Reservation that it is given.
//     It may keep the Plans and Windows that these point to: they are immutable.
//   - An error that [StoreResponded] recognises is the store's decision: nothing has
//     changed, and to repeat the call is useless. After [ErrOverloaded] nothing was
//     sent and nothing has changed. After any other error it is unknown whether the
//     call was carried out. The caller may repeat it: Reserve, Commit, CommitRest
//     and Release have their effect once for each Request.ID, ApplyChange once for each Change.ID.
type Store interface {
	// Reserve holds the request in every limit of the effective plan that applies to it, or in
	// none: 1 in limits on requests, HeldUnits in limits on units. The check and the hold MUST
	// be one atomic step, so that used + held never exceeds a limit, whatever the concurrency.
	// Soft limits are held as well, and refuse nothing.
	//
	//   - If the plan has a ConcurrencyLimit, a request that the limits admit MUST take a place
	//     in the same step, or be refused with NoPlace. It keeps the place until Leave, whatever
	//     becomes of its hold, and MUST lose it within PlaceLease after its gateway has died.
	//   - It MUST take a token of the plan's AttemptLimit first, unless the request has Waited.
	//     If no token is left it refuses, and no count and no hold has changed. A request that a limit
	//     refuses keeps its token spent.
	//   - A request in observe mode MUST be admitted, even above a limit and without a
	//     token. It takes a token where there is one.
	//   - A request that it refuses MUST change no count and no hold.
	//   - An ID that is held MUST be admitted again, in the windows that it is held in and with its
	//     Date and BillHour, without a second hold or token. An ID that was settled MUST return ErrSettled, for
	//     at least ten minutes or until Forget.
	//   - The hold MUST end by itself when its Lease has run out.
	//   - Where the store keeps a history, the Reservation's Date MUST be today's by the store's clock, and 0
	//     where it keeps none. Likewise its BillHour, where counts are kept for billing.
	//
	// The Decision is never nil. With an error its Reservation still says what to
	// release, or to commit if the request is let through without an answer. A refusal
	// is not an error.
	Reserve(context.Context, Request) (*Decision, error)

	// Commit turns what a reservation holds into a count, in the windows of the
	// reservation: one request and ChargedUnits. The other units that it holds MUST be given
	// back in the same step. It MUST count once, however often and however late it is called, and
	// also when nothing is held any more. It counts nothing in windows that are no
	// longer kept, see Window.RetainedUntil. After a Release of the same ID, it MUST
	// change nothing. In the same step it counts on the reservation's Date, if the history of that day
	// is kept, see Date.IsKept, also when none of the windows is; and likewise in its BillHour, for the Bills.
	//
	// If the effective plan has NotifyAt, what the step counts may reach thresholds of its limits, in the
	// windows of the reservation. Then the same step records a Crossing, for the account or, if the limit is
	// shared, for the pool. CommitRest and ApplyChange do so as well.
	//
	// RestUnits are not given back: in the same step they become a hold of their own, of units and no
	// request, in the windows of the reservation. It stays until CommitRest, however long that
	// takes, and MUST end by itself within the reservation's Lease, or PlaceLease if that is longer,
	// after its gateway has died. If CommitRest came before, nothing stays held.
	//
	// The Snapshot is the user's state afterwards, nil with an error. The error is never one
	// that StoreResponded recognises.
	Commit(context.Context, *Reservation) (*Snapshot, error)

	// Release gives back what a reservation holds. After a Commit of the same ID it MUST
	// change nothing; a Reserve that arrives after its Release MUST return ErrSettled.
	//
	// The Snapshot is the user's state afterwards, nil with an error. The error is never one
	// that StoreResponded recognises.
	Release(context.Context, *Reservation) (*Snapshot, error)

	// CommitRest ends what Commit has left held, once the cost of the request is known: it turns
	// ChargedRest units into a count, in the windows of the reservation, and gives the others back
	// in the same step. It counts no request. It MUST have its effect once, however often and however
	// late it is called, also before the Commit of the same ID, and when nothing is held any
	// more. Like Commit, it counts on the reservation's Date as well, and nothing in windows and on days
	// that are no longer kept. It MUST NOT be called for a reservation that was released, nor for one without RestUnits.
	//
	// The Snapshot is the user's state afterwards, nil with an error. The error is never one
	// that StoreResponded recognises.
	CommitRest(context.Context, *Reservation) (*Snapshot, error)

	// Leave gives back the place of a request whose plan has a ConcurrencyLimit, when its
	// response has ended. It MUST NOT block. A Reserve on the same gateway that follows it finds the
	// place free. A Leave that is repeated, or for which there is no place, changes nothing.
	Leave(*Reservation)

	// Forget says that no call for this reservation will follow. The store may then drop
	// the record by which it recognises repeated calls. It MUST NOT block.
	Forget(*Reservation)

	// Watch sends to ch whenever the user's numbers may have changed, on any gateway,
	// until stop is called. It MUST NOT wait for the receiver, so ch should have a
	// capacity of 1. Notifications can be lost, and none is sent when a lease runs out:
	// watchers should also read from time to time.
	Watch(user string, ch chan<- struct{}) (stop func())

	// Read returns the user's state in the running windows, laid out by the effective
	// plan. A user who was never seen has used nothing.
	Read(ctx context.Context, user string, plans PlanChoice) (Snapshot, error)

	// ReadAt is Read for the windows that contain another instant. In windows that are
	// over, nothing is held. It returns ErrNotKept when the report period's window has
	// not begun or is no longer kept.
	ReadAt(ctx context.Context, user string, plans PlanChoice, at time.Time) (Snapshot, error)

	// History returns what the account has used on each of the last days, of which there are 1 to as
	// many as the store keeps; for others ErrNotKept. A day MUST have the numbers that the counters of
	// limits per day on each endpoint would have, see History. A pool has used nothing.
	History(ctx context.Context, account string, days int) (History, error)

	// ApplyChange makes an administrator's change and adds it to the user's audit log, in
	// one atomic step. A Change whose ID was applied within ChangeIDLife MUST change
	// nothing more. Errors that StoreResponded recognises are ErrInvalidChange,
	// ErrNoSuchLimit, ErrTooLarge, ErrIDConflict and ErrTooManyIDs.
	ApplyChange(ctx context.Context, user string, plans PlanChoice, change Change) (Snapshot, error)

	// ClaimedPlan returns the name of the plan that the user's token claimed when they
	// were last admitted or counted; empty when it is not known.
	ClaimedPlan(ctx context.Context, user string) (plan string, err error)

	// Running returns how many requests of an account have a place, as of its last Read or Reserve, see
	// ConcurrencyLimit.
	Running(ctx context.Context, account string) (int64, error)

	// AuditLog returns the changes of a user, the newest first, at most MaxAuditEntries.
	AuditLog(ctx context.Context, user string) ([]AuditEntry, error)

	// ScanUsers calls yield once for each window of each user that the query is about and in which
	// something is counted. It is not one consistent view: the numbers are those
	// of when the scan reaches the user. An error of yield ends the scan and is returned.
	// ErrNotKept is returned as by ReadAt. A member of an organisation is a user of their own in
	// each. Pools are left out: what they have used, members have used.
	ScanUsers(ctx context.Context, windows WindowQuery, yield func(UserUsage) error) error

	// ScanMembers is ScanUsers for the members of one organisation.
	ScanMembers(ctx context.Context, org string, windows WindowQuery, yield func(UserUsage) error) error

	// ScanSnapshots calls yield for each user, and each member of an organisation, of whom the store
	// keeps a count, a grant or a plan override, with what Read would return of them at that moment. It
	// may yield others whom it has seen. What the members of an organisation share may be from an earlier
	// moment of the scan: it is read once for many of them. Otherwise the scan is as ScanUsers, but its
	// memory MUST NOT grow with the number of users. So a user whose data move to another part of the
	// store during the scan may be yielded twice, or not at all.
	ScanSnapshots(ctx context.Context, query SnapshotQuery, yield func(UserSnapshot) error) error

	Crossings
	Bills
}

// StoreDiagnostics is what a store reports about itself to the operator.
type StoreDiagnostics interface {
	// SetupWarnings returns one sentence for each choice in the store's setup that can cost
	// counts, such as a Redis that keeps nothing on disk; nil when there is none.
	SetupWarnings(context.Context) []string
	// Weaknesses returns what is wrong with a store that counts all the same, as far as it was
	// seen when it was last checked; nil: nothing.
	Weaknesses() []Weakness
	// LostHolds is the number of requests since the store was opened that were counted
	// although their hold was gone. Another request may have been admitted in their place.
	LostHolds() int64
	// ExpiredHolds is the number of holds that the store has found expired since it was
	// opened: nobody settled them before their lease ran out.
	ExpiredHolds() int64
	// SubscribeFails reports whether the store serves calls but does not tell this gateway of
	// changes that others make, so that watchers notice them only when they next read.
	SubscribeFails() bool
	// FileReplaced is how often the store's file was deleted or replaced since it was opened,
	// and had to be written again.
	FileReplaced() int64
	// FileSpace is the size of the store's file in bytes, and how much of that is free for later
	// keys; 0 and 0 if it has none.
	FileSpace() (size, free int64)
	// DataLosses is how often the store was found to have lost data since it was opened: it
	// was emptied, replaced or restored from a backup.
	DataLosses() int64
	// DataFault returns what the store has lost, until the operator has accepted it or, if nobody
	// has to, for an hour; nil: nothing.
	DataFault() error
}

// A Weakness is something wrong with a store that counts all the same.
type Weakness struct {
	Name  string // for metrics: one of the constants below
	Fault string // what is wrong, and what to change
}

// The names of weaknesses.
const (
	EvictsCounts    = "evicts_counts"    // it deletes counts when its memory is full
	NoAnnouncements = "no_announcements" // gateways do not hear at once of changes on others
)

// WeaknessNames has all of them.
var WeaknessNames = []string{EvictsCounts, NoAnnouncements}
