package redisstore

import (
	"context"

	"metergate/quota"
)

// ScanBills implements quota.Store.
func (s *Store) ScanBills(context.Context, quota.BillQuery, func(quota.AccountBills) error) error {
	return quota.ErrNotKept
}

// EndBills implements quota.Store.
func (s *Store) EndBills(context.Context, string, []quota.Bill) error { return quota.ErrNotKept }
