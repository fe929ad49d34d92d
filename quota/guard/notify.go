package guard

import (
	"cmp"
	"context"
	"time"

	"metergate/quota"
)

// ClaimCrossings asks the backend, see quota.Crossings. It fails at once if any circuit breaker is open.
func (s *Store) ClaimCrossings(ctx context.Context, most int) (quota.CrossingClaims, error) {
	if err := s.openError(); err != nil {
		return quota.CrossingClaims{}, err
	}
	return s.backend.ClaimCrossings(ctx, most)
}

// CrossingsOf asks the backend, see quota.Crossings.
func (s *Store) CrossingsOf(ctx context.Context, account string) ([]quota.Crossing, error) {
	call, err := s.beginCall(ctx, opRead, account)
	if err != nil {
		return nil, err
	}
	crossings, err := s.backend.CrossingsOf(call, account)
	s.recordResult(call, err)
	return crossings, err
}

// EndCrossings tells the backend, see quota.Crossings.
func (s *Store) EndCrossings(ctx context.Context, account string, ids []string) error {
	return s.tell(ctx, account, func(ctx context.Context) error { return s.backend.EndCrossings(ctx, account, ids) })
}

// EndClaim tells the backend, see quota.Crossings.
func (s *Store) EndClaim(ctx context.Context, claim quota.CrossingClaim, again time.Duration) error {
	return s.tell(ctx, claim.Account, func(ctx context.Context) error { return s.backend.EndClaim(ctx, claim, again) })
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
