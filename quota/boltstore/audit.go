package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// record adds the change to the audit log, and its ID to those that are recognised.
func (c *changeTx) record() error {
	audit, ends := c.tx.Bucket(auditBucket), c.tx.Bucket(endsBucket)
	number, err := audit.NextSequence()
	if err != nil {
		return err
	}
	key := binary.BigEndian.AppendUint64(userKey(c.user, ""), number)
	key = binary.BigEndian.AppendUint64(key, uint64(c.now.UnixMilli()))
	if err := audit.Put(key, c.Encode()); err != nil {
		return err
	}
	if err := ends.Put(endsKey(auditKind, c.now.Unix(), key), nil); err != nil {
		return err
	}
	entries := keysWithPrefix(audit.Bucket, userKey(c.user, ""))
	for _, k := range entries[:max(0, len(entries)-quota.MaxAuditEntries)] {
		if err := audit.Delete(k); err != nil {
			return err
		}
		if err := ends.Delete(endsKey(auditKind, auditKeyTime(k).Unix(), k)); err != nil {
			return err
		}
	}
	if c.ID == "" {
		return nil
	}
	until, key := c.now.Add(quota.ChangeIDLife), userKey(c.user, c.ID)
	value := binary.BigEndian.AppendUint64(nil, uint64(until.UnixMilli()))
	if err := c.tx.Bucket(onceBucket).Put(key, append(value, c.fingerprint...)); err != nil {
		return err
	}
	return ends.Put(endsKey(onceKind, ceilSeconds(until), key), nil)
}

// AuditLog returns a user's audit log, the newest entry first.
func (s *Store) AuditLog(ctx context.Context, user string) (entries []quota.AuditEntry, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sh, now, err := s.lockUser(user)
	if err != nil {
		return nil, err
	}
	defer sh.mu.Unlock()
	err = s.dbView(func(tx boltfile.Reader) error {
		cursor, prefix := tx.Bucket(auditBucket).Cursor(), userKey(user, "")
		for k, v := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = cursor.Next() {
			at := auditKeyTime(k)
			if !now.Before(at.Add(s.keep)) {
				continue
			}
			e, err := quota.DecodeAuditEntry(at.In(s.calendar.Location()), v)
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	slices.Reverse(entries)
	return entries, nil
}

// auditKeyTime is when the entry with a key in audit was made.
func auditKeyTime(key []byte) time.Time { return time.UnixMilli(decodeNumber(key[len(key)-8:])) }
