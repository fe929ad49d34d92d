package proxy

import (
	"context"

	"metergate/quota"
)

// A Store keeps what users have used and hold: that of package guard, around one
// of redisstore or boltstore.
type Store interface {
	// Reserve holds one unit in every limit that applies, or changes nothing. With
	// an error the request must not pass, and there is nothing to settle; the Decision
	// is never nil.
	Reserve(context.Context, quota.Request) (*quota.Decision, error)
	// Commit counts a reservation, Release gives it back; each once, however often
	// they are called. The Snapshot is the user's state afterwards, nil after an error.
	// The Reservation is the caller's: it is neither changed nor kept.
	Commit(context.Context, *quota.Reservation) (*quota.Snapshot, error)
	Release(context.Context, *quota.Reservation) (*quota.Snapshot, error)
	// Forget says that no call for a reservation will come again. It only lets the
	// store save memory, and does not wait.
	Forget(*quota.Reservation)
	// Watch sends to ch, without waiting, whenever a user's numbers may have changed,
	// until stop is called.
	Watch(user string, ch chan<- struct{}) (stop func())
	// Read returns a user's state, laid out by the plan that applies.
	Read(ctx context.Context, user string, t quota.PlanChoice) (quota.Snapshot, error)
}
