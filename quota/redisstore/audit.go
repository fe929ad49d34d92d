package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/script"
)

// AuditLog implements quota.Store.
func (s *Store) AuditLog(ctx context.Context, user string) ([]quota.AuditEntry, error) {
	text, err := s.readField(ctx, user, script.FieldAudit)
	if err != nil {
		return nil, err
	}
	_, list, _ := strings.Cut(text, "\n")
	oldest := s.Now().Add(-s.keep)
	var entries []quota.AuditEntry
	for line := range strings.Lines(list) {
		at, change, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		ms, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("reading the audit log: %w", err)
		}
		e, err := quota.DecodeAuditEntry(time.UnixMilli(ms).In(s.calendar.Location()), []byte(change))
		if err != nil {
			return nil, fmt.Errorf("reading the audit log: %w", err)
		}
		if e.At.After(oldest) {
			entries = append(entries, e)
		}
	}
	return entries, nil
}
