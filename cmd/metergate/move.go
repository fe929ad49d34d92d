package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"metergate/cmd/metergate/storefile"
	"metergate/quota"
	"metergate/quota/record"
)

// A movePlace is what the flags say of one store.
type movePlace struct {
	name                string // from or to
	url, config, prefix *string
}

func movePlaceFlags(f *flag.FlagSet, name, what string) *movePlace {
	return &movePlace{
		name:   name,
		url:    f.String(name, "", "the store to move "+what+", as store.url has it: a `URL` such as embedded:DIR or redis://HOST:PORT"),
		config: f.String(name+"-config", "", "take the store from this configuration `FILE`, with its prefix, its TLS, timezone and store.keep"),
		prefix: f.String(name+"-prefix", "", "the `PREFIX` of the keys in Redis (default metergate, or that of the configuration)"),
	}
}

// place returns the store that the flags name. zone and keep are those of its configuration;
// nil and 0 without a configuration.
func (m *movePlace) place(c *console) (p storefile.Place, zone *time.Location, keep time.Duration, err error) {
	switch {
	case *m.config != "":
		cfg, err := loadOnly(*m.config, "store", "timezone")
		if err != nil {
			return p, nil, 0, err
		}
		p.URL, p.Prefix, p.Protocol = cmp.Or(*m.url, string(cfg.Store.URL)), cfg.Store.Prefix, cfg.Store.Protocol
		if p.TLS, err = cfg.Store.TLS.Client(); err != nil {
			return p, nil, 0, fmt.Errorf("store.tls: %w", err)
		}
		zone, keep = cfg.Timezone, cfg.Store.Keep
		p.Journal = cfg.Store.Journal
	case *m.url == "":
		return p, nil, 0, c.usageError("-%s is needed, or -%s-config", m.name, m.name)
	default:
		p.URL = *m.url
	}
	p.Prefix = cmp.Or(*m.prefix, p.Prefix, "metergate")
	if dir, ok := p.Embedded(); ok {
		if dir == "" || strings.HasPrefix(dir, "//") {
			return p, nil, 0, c.usageError("-%s: must be embedded:DIR, such as embedded:./data", m.name)
		}
		p.Prefix = ""
	}
	if err := p.Check(); err != nil {
		return p, nil, 0, c.usageError("-%s: %v", m.name, err)
	}
	return p, zone, keep, nil
}

// move moves all accounts from one store to another, and compares them.
func move(c *console) error {
	f := c.flags()
	fromFlags, toFlags := movePlaceFlags(f, "from", "the users from"), movePlaceFlags(f, "to", "them to")
	zoneName := f.String("timezone", "", "where days and months begin: the `ZONE` of the configuration (default UTC)")
	keepText := f.Duration("keep", 0, "how long past counts are kept: store.keep (default 9600h, which is 400d)")
	replace := f.Bool("replace", false, "replace what the target has: users that only the target has are dropped")
	verifyOnly := f.Bool("verify-only", false, "move nothing, and compare the two stores")
	force := f.Bool("force", false, "go on although a gateway seems to be running on a Redis")
	most := f.Int("n", 20, "the most differences to show; 0: all")
	if _, err := c.parse(f); err != nil {
		return err
	}
	from, fromZone, fromKeep, err := fromFlags.place(c)
	if err != nil {
		return err
	}
	to, toZone, toKeep, err := toFlags.place(c)
	if err != nil {
		return err
	}
	zone, err := c.moveZone(*zoneName, fromZone, toZone)
	if err != nil {
		return err
	}
	if isSamePlace(from, to) {
		return c.usageError("-from and -to are the same store")
	}
	if *keepText < 0 || *most < 0 || *replace && *verifyOnly {
		return c.usageError("-keep and -n must not be negative, and -replace does not go with -verify-only")
	}
	keep := cmp.Or(*keepText, max(fromKeep, toKeep), 400*24*time.Hour)
	from.Calendar, to.Calendar, from.Keep, to.Keep = quota.NewCalendar(zone), quota.NewCalendar(zone), keep, keep

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if !*verifyOnly {
		if err := from.CheckJournal(); err != nil {
			return fmt.Errorf("-from-config: store.journal: %w", err)
		}
	}
	source, closeSource, err := from.OpenSource(ctx, *force)
	if err != nil {
		return fmt.Errorf("-from: %w", err)
	}
	defer closeSource.Close()
	openTarget := to.OpenTarget
	if *verifyOnly {
		openTarget = to.OpenSource // which makes no file
	} else if err := checkSource(ctx, source); err != nil { // before the target's file is made
		return err
	}
	target, closeTarget, err := openTarget(ctx, *force)
	if err != nil {
		return fmt.Errorf("-to: %w", err)
	}
	defer closeTarget.Close()
	m := record.Move{From: source, To: target, View: record.View{Calendar: from.Calendar, Keep: keep}}
	if !*verifyOnly {
		if err := c.copyAccounts(ctx, &m, *replace); err != nil {
			return err
		}
	}
	return c.compareAccounts(ctx, &m, *most)
}

// isSamePlace reports whether two stores have the same URL, or the same folder.
func isSamePlace(from, to storefile.Place) bool {
	fromDir, isFolder := from.Embedded()
	if toDir, ok := to.Embedded(); ok && isFolder {
		a, errA := filepath.Abs(fromDir)
		b, errB := filepath.Abs(toDir)
		return errA == nil && errB == nil && a == b
	}
	return from.URL == to.URL && from.Prefix == to.Prefix
}

// moveZone returns the time zone: that of a flag, or of the configurations.
func (c *console) moveZone(name string, from, to *time.Location) (*time.Location, error) {
	if name != "" {
		zone, err := time.LoadLocation(name)
		if err != nil {
			return nil, c.usageError("-timezone: %v", err)
		}
		return zone, nil
	}
	if from != nil && to != nil && from.String() != to.String() {
		return nil, c.usageError("the timezone is %s in -from-config and %s in -to-config: the months would not be the same; make them equal, or say which with -timezone", from, to)
	}
	return cmp.Or(from, to, time.UTC), nil
}

// checkSource returns an error unless a store to move from has users.
func checkSource(ctx context.Context, source record.Store) error {
	empty, err := record.IsEmpty(ctx, source)
	if err != nil {
		return fmt.Errorf("-from: %w", err)
	}
	if empty {
		return errors.New("-from: it has no users; is it the right store, and the right prefix?")
	}
	return nil
}

// copyAccounts copies all accounts to a store that has none, or in place of those that it has.
func (c *console) copyAccounts(ctx context.Context, m *record.Move, replace bool) error {
	empty, err := record.IsEmpty(ctx, m.To)
	if err != nil {
		return fmt.Errorf("-to: %w", err)
	}
	if !empty && !replace {
		return errors.New("-to: it has users already; -replace replaces them and drops those that -from does not have")
	}
	told := time.Now()
	m.Progress = func(accounts int) { tellProgress(c.stderr, &told, "moved %d accounts", accounts) }
	accounts, err := m.Copy(ctx, replace)
	if errors.Is(err, quota.ErrUserData) {
		return fmt.Errorf("stopped after %s: %w; the source is as it was. If it is about a window, give the timezone of the source with -timezone or -from-config", plural(accounts, "account"), err)
	}
	if err != nil {
		return fmt.Errorf("stopped after %s: %w; the source is as it was: run it again with -replace", plural(accounts, "account"), err)
	}
	fmt.Fprintf(c.stdout, "moved %s\n", plural(accounts, "account"))
	return nil
}

// compareAccounts compares all accounts, and shows those that differ.
func (c *console) compareAccounts(ctx context.Context, m *record.Move, most int) error {
	told := time.Now()
	m.Progress = func(accounts int) { tellProgress(c.stderr, &told, "compared %d accounts", accounts) }
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	differ := 0
	accounts, err := m.Compare(ctx, func(d record.Difference) {
		if differ++; most > 0 && differ > most {
			return
		}
		if differ == 1 {
			fmt.Fprintln(t, "ORGANISATION\tUSER\tDIFFERS IN")
		}
		org, user := quota.SplitAccount(d.Name)
		fmt.Fprintf(t, "%s\t%s\t%s\n", cmp.Or(org, "-"), cmp.Or(user, "-"), d.What)
	})
	t.Flush()
	if err != nil {
		return fmt.Errorf("comparing: %w", err)
	}
	if old := m.TooOld; old != (record.Aged{}) {
		fmt.Fprintf(c.stdout, "left out as older than %v (see -keep): windows of counts: %d, audit entries: %d\n", m.Keep, old.Windows, old.AuditEntries)
	}
	if differ > 0 {
		if most > 0 && differ > most {
			fmt.Fprintf(c.stdout, "and %d more; -n 0 shows all\n", differ-most)
		}
		fmt.Fprintf(c.stdout, "compared %s: %d differ\n", plural(accounts, "account"), differ)
		return errDiffers
	}
	fmt.Fprintf(c.stdout, "compared %s: all are the same\n", plural(accounts, "account"))
	return nil
}
