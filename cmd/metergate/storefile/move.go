package storefile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/record"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redisurl"
)

// A Place is a store that accounts are moved from or to.
type Place struct {
	URL      string // as store.url has it
	Prefix   string // of the keys in Redis
	TLS      *tls.Config
	Protocol int
	Calendar *quota.Calendar
	Keep     time.Duration // of counts
	Journal  string        // the folder in which counts of a gateway wait for the Redis; empty: unknown
}

// Check returns why the URL cannot be used. It does not show the URL, which may hold a password.
func (p Place) Check() error {
	if _, ok := p.Embedded(); ok {
		return nil
	}
	_, err := redisurl.Parse(p.URL)
	if errors.Is(err, redisurl.ErrScheme) {
		return errors.New("must be embedded:DIR, " + redisurl.Forms)
	}
	return err
}

const embeddedScheme = "embedded:"

// Embedded returns the folder of an embedded store.
func (p Place) Embedded() (dir string, ok bool) { return strings.CutPrefix(p.URL, embeddedScheme) }

// moveTimeout is how long one reply of Redis may take: a batch of accounts is larger than a request.
const moveTimeout = 20 * time.Second

// errRunning: a gateway uses the Redis.
var errRunning = errors.New("a gateway is running on this Redis; stop all gateways first, or their counts are lost (-force goes on nevertheless)")

// OpenSource opens a store to move accounts from. A gateway must not use it. force: go on if one seems to.
func (p Place) OpenSource(ctx context.Context, force bool) (record.Store, io.Closer, error) {
	if dir, ok := p.Embedded(); ok {
		file := filepath.Join(dir, boltstore.FileName)
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("there is no %s", file)
		}
	}
	return p.open(ctx, force)
}

// OpenTarget opens a store to move accounts to, likewise.
func (p Place) OpenTarget(ctx context.Context, force bool) (record.Store, io.Closer, error) {
	return p.open(ctx, force)
}

// CheckJournal returns an error if counts wait in the journal, which the store does not have yet.
func (p Place) CheckJournal() error {
	if _, ok := p.Embedded(); ok || p.Journal == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(p.Journal, guard.JournalName+"*")) // also that of an upgrade
	if err != nil {
		return err
	}
	for _, file := range files {
		if name := filepath.Base(file); name != guard.JournalName && name != guard.JournalName+".next" {
			continue
		}
		faults, entries, err := guard.ExamineJournal(file)
		switch {
		case errors.Is(err, guard.ErrInUse):
			return fmt.Errorf("%s is open in a running gateway; stop it first", file)
		case err != nil:
			return err
		case len(faults) > 0:
			return fmt.Errorf("%s is damaged (%v), so counts may wait in it; \"metergate check %s\" lists all; to go on without them, move the file away", file, faults[0], file)
		case entries > 0:
			return fmt.Errorf("counts for this store wait in %s: %d; they would be lost: start the gateway until metergate_journal_backlog is 0, stop it, and move again", file, entries)
		}
	}
	return nil
}

func (p Place) open(ctx context.Context, force bool) (record.Store, io.Closer, error) {
	if dir, ok := p.Embedded(); ok {
		s, err := boltstore.Open(dir, boltstore.Options{Calendar: p.Calendar, Keep: p.Keep, HistoryDays: quota.MaxHistory, BillingHours: quota.MaxBillingHours})
		if errors.Is(err, boltstore.ErrInUse) {
			return nil, nil, fmt.Errorf("%w; stop the gateway first", err)
		}
		return s, s, err
	}
	s, err := redisstore.Open(redisstore.Options{
		URL: p.URL, Prefix: p.Prefix, TLS: p.TLS, Protocol: p.Protocol, Timeout: moveTimeout, Calendar: p.Calendar, Keep: p.Keep,
		HistoryDays: quota.MaxHistory, BillingHours: quota.MaxBillingHours,
	})
	if err != nil {
		return nil, nil, err
	}
	if force {
		return s, s, nil
	}
	s.RefuseHeld()
	switch used, err := s.IsUsed(ctx); {
	case err != nil:
		return nil, nil, errors.Join(err, s.Close())
	case used:
		return nil, nil, errors.Join(errRunning, s.Close())
	}
	return s, s, nil
}
