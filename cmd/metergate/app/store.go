package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"metergate/cmd/metergate/sockets"
	"metergate/config"
	"metergate/proxy/admin"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/redisstore"
)

// A store is what a gateway counts in: Redis or the embedded store, behind a guard that
// keeps counting while Redis does not answer.
type store struct {
	*guard.Store
	backend  backendStore
	redis    *redisstore.Store // the backend, if it is Redis
	local    *boltstore.Store  // the backend, if it is the embedded store
	calendar *quota.Calendar
	clock    admin.Clock
	plans    claimedPlans
}

// A backendStore is what the gateway asks of the store behind the guard, other than
// counting.
type backendStore interface {
	io.Closer
	quota.StoreDiagnostics
	// AcceptData accepts what the store has now in place of what it has lost, and returns how
	// many of its parts had a loss.
	AcceptData(context.Context) (parts int, err error)
}

// checkEvery is how often the store is checked. What is wrong with it then shows within 5 s, also
// without requests.
const checkEvery = 2 * time.Second

// openStore opens the store of a configuration. Redis need not be reachable. before is another process that
// has the store open; nil: no process has.
func openStore(cfg *config.Config, log *slog.Logger, before *sockets.Predecessor) (_ *store, err error) {
	s := &store{calendar: quota.NewCalendar(cfg.Timezone)}
	if err := s.plans.setFrom(cfg); err != nil {
		return nil, err
	}
	o := guard.Options{
		AllowOnFailure: cfg.Store.OnFailure == config.Allow,
		Timeout:        cfg.Store.Timeout,
		Calendar:       s.calendar,
		Keep:           cfg.Store.Keep,
		HistoryDays:    cfg.HistoryDays(),
		BillingHours:   cfg.BillingHours(),
		CheckEvery:     checkEvery,
		Log:            log,
	}
	if dir, ok := cfg.Store.Embedded(); ok {
		local, err := boltstore.Open(dir, boltstore.Options{
			Calendar: s.calendar, Keep: cfg.Store.Keep, HistoryDays: cfg.HistoryDays(), BillingHours: cfg.BillingHours(),
			Timeout: cfg.Store.Timeout, Log: log,
		})
		if err != nil {
			return nil, err
		}
		o.Backend, s.backend, s.local = local, local, local
	} else {
		options, err := redisOptions(cfg)
		if err != nil {
			return nil, err
		}
		if before != nil {
			o.Journal, err = guard.OpenJournalBeside(cfg.Store.Journal, before.JournalNotes)
		} else {
			o.Journal, err = guard.OpenJournal(cfg.Store.Journal)
		}
		if err != nil {
			return nil, fmt.Errorf("store.journal: %w; each gateway needs a writable folder of its own", err)
		}
		options.Calendar, options.Log = s.calendar, log
		options.Memory, options.RefuseDataLoss = o.Journal, cfg.Store.OnDataLoss == config.DenyAfterLoss
		backend, err := redisstore.Open(options)
		if err != nil {
			return nil, errors.Join(err, o.Journal.Close())
		}
		o.Backend, s.backend, s.redis = backend, backend, backend
	}
	s.clock = o.Backend
	o.PlansFor = s.plans.forAccount
	if s.Store, err = guard.New(o); err != nil {
		return nil, errors.Join(err, s.backend.Close())
	}
	return s, nil
}

// redisOptions are what a configuration says of a Redis. The rest is zero.
func redisOptions(cfg *config.Config) (redisstore.Options, error) {
	tlsConfig, err := buildStoreTLS(cfg, nil)
	return redisstore.Options{
		URL:      string(cfg.Store.URL),
		TLS:      tlsConfig,
		Protocol: cfg.Store.Protocol,
		Prefix:   cfg.Store.Prefix,
		Timeout:  cfg.Store.Timeout,
		Keep:     cfg.Store.Keep,

		HistoryDays:  cfg.HistoryDays(),
		BillingHours: cfg.BillingHours(),
	}, err
}

// buildStoreTLS loads the settings of store.tls; nil: the defaults. If they have not changed,
// they are taken over from the generation before.
func buildStoreTLS(cfg *config.Config, before *generation) (*tls.Config, error) {
	if before != nil && reflect.DeepEqual(before.cfg.Store.TLS, cfg.Store.TLS) {
		return before.storeTLS, nil
	}
	c, err := cfg.Store.TLS.Client()
	if err != nil {
		return nil, fmt.Errorf("store.tls: %w", err)
	}
	return c, nil
}

// fault returns why the store does not count or, if it does, what else is wrong with it, as far as
// is known; nil: nothing.
func (s *store) fault() error {
	if err := s.Store.Fault(); err != nil {
		return err
	}
	var faults []error
	for _, w := range s.backend.Weaknesses() {
		faults = append(faults, fmt.Errorf("it counts, but %s", w.Fault))
	}
	return errors.Join(faults...)
}

// faultNames has every fault that fault knows, and whether it is there.
func (s *store) faultNames() map[string]bool {
	names := map[string]bool{"cannot_count": s.Store.Fault() != nil}
	for _, name := range quota.WeaknessNames {
		names[name] = slices.ContainsFunc(s.backend.Weaknesses(), func(w quota.Weakness) bool { return w.Name == name })
	}
	return names
}

// Close stops the guard first: it may still be replaying its journal.
func (s *store) Close() error { return errors.Join(s.Store.Close(), s.backend.Close()) }
