package guard

import (
	"cmp"
	"context"
	"time"

	"metergate/quota"
)

// Notifications are delivered in the background. Calls for them fail at once while the circuit breaker is open,
// and open none: nobody waits for them, and one for an account may also need another part of the backend.

// ClaimCrossings asks the backend, see quota.Crossings. It fails at once if all circuit breakers are open.
func (s *Store) ClaimCrossings(ctx context.Context, most int) (claims quota.CrossingClaims, err error) {
	for i := range s.breakers {
		if err = s.breakers[i].openError(); err == nil {
			break
		}
	}
	if err == nil {
		claims, err = s.backend.ClaimCrossings(ctx, most)
	}
	if err != nil {
		s.stats.failed[opRead].Add(1)
	}
	return claims, err
}

// CrossingsOf asks the backend, see quota.Crossings. It does not include what the journals will reach.
func (s *Store) CrossingsOf(ctx context.Context, account string) (crossings []quota.Crossing, err error) {
	err = s.ask(ctx, opRead, account, func(ctx context.Context) (err error) {
		crossings, err = s.backend.CrossingsOf(ctx, account)
		return err
	})
	return crossings, err
}

// EndCrossings tells the backend, see quota.Crossings.
func (s *Store) EndCrossings(ctx context.Context, account string, ids []string) error {
	return s.ask(ctx, opChange, account, func(ctx context.Context) error { return s.backend.EndCrossings(ctx, account, ids) })
}

// EndClaim tells the backend, see quota.Crossings.
func (s *Store) EndClaim(ctx context.Context, claim quota.CrossingClaim, again time.Duration) error {
	return s.ask(ctx, opChange, claim.Account, func(ctx context.Context) error { return s.backend.EndClaim(ctx, claim, again) })
}

// ask makes a call about an account that has no effect on its circuit breaker.
func (s *Store) ask(ctx context.Context, op operation, account string, do func(context.Context) error) error {
	call, err := s.beginCall(ctx, op, account)
	if err != nil {
		return err
	}
	if err = do(call); !quota.StoreResponded(err) {
		s.stats.failed[op].Add(1)
	}
	return err
}

// ScanBills scans the backend, see quota.Bills. It does not include what the journals have: that goes into
// later bills. It fails at once if any circuit breaker is open, since some accounts could not be read, and while
// data are lost: the right ones may come back.
func (s *Store) ScanBills(ctx context.Context, q quota.BillQuery, yield func(quota.AccountBills) error) error {
	if s.billingHours == 0 {
		return quota.ErrNotKept
	}
	isReady := func() error { return cmp.Or(s.backend.DataLost(), s.openError()) }
	return scan(s, yield, isReady, func(yield func(quota.AccountBills) error) error {
		return s.backend.ScanBills(ctx, q, yield)
	})
}

// EndBills tells the backend, see quota.Bills.
func (s *Store) EndBills(ctx context.Context, account string, bills []quota.Bill) error {
	if s.billingHours == 0 {
		return quota.ErrNotKept
	}
	if err := s.backend.DataLost(); err != nil {
		return err
	}
	return s.tell(ctx, account, func(ctx context.Context) error { return s.backend.EndBills(ctx, account, bills) })
}

// tell makes a call about an account that returns nothing.
func (s *Store) tell(ctx context.Context, account string, do func(context.Context) error) error {
	call, err := s.beginCall(ctx, opChange, account)
	if err != nil {
		return err
	}
	err = do(call)
	s.recordResult(call, err)
	return err
}
