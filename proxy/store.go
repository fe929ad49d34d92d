package proxy

import (
	"context"

	"metergate/quota"
)

// A Store keeps what users have used and what they hold. It is the part of quota.Store
// that the proxy needs, and that is its contract. With an error of Reserve there is
// nothing to settle: package guard, which stands between, has seen to it.
type Store interface {
	Reserve(context.Context, quota.Request) (*quota.Decision, error)
	Commit(context.Context, *quota.Reservation) (*quota.Snapshot, error)
	Release(context.Context, *quota.Reservation) (*quota.Snapshot, error)
	Forget(*quota.Reservation)
	Watch(user string, ch chan<- struct{}) (stop func())
	Read(ctx context.Context, user string, plans quota.PlanChoice) (quota.Snapshot, error)
}
