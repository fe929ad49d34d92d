package record

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"
)

// errFound ends a scan that only asks whether there is an account.
var errFound = errors.New("there is an account")

// IsEmpty reports whether a store has no account.
func IsEmpty(ctx context.Context, s Store) (bool, error) {
	err := s.ScanAccounts(ctx, func(accounts []Account) error {
		if len(accounts) > 0 {
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		return false, nil
	}
	return err == nil, err
}

// A Move moves all accounts of one store to another, or compares them.
type Move struct {
	From, To Store
	View
	// Progress is told how many accounts were moved or compared; nil: nobody is.
	Progress func(accounts int)
	// TooOld is what Compare has found in From that View.Keep leaves out.
	TooOld Aged
}

// An Aged is how much of what a store still has is older than it is to be kept.
type Aged struct{ Windows, AuditEntries int }

// longestKeep is longer than any store.keep that makes sense.
const longestKeep = 100 * 366 * 24 * time.Hour

// tooOld returns how much of an account only a longer Keep would leave.
func (v View) tooOld(a Account, at time.Time) (Aged, error) {
	live, _, err := v.Live(a, at)
	if err != nil {
		return Aged{}, err
	}
	v.Keep = longestKeep
	all, _, err := v.Live(a, at)
	return Aged{len(all.Windows) - len(live.Windows), len(all.Audit) - len(live.Audit)}, err
}

func (m *Move) tell(accounts int) {
	if m.Progress != nil {
		m.Progress(accounts)
	}
}

// Copy puts every account of From into To, in place of one that is there. With mirror, it then drops the accounts that only To
// has. It can be repeated after an error. It returns how many were put; some may have been put twice.
func (m *Move) Copy(ctx context.Context, mirror bool) (accounts int, err error) {
	err = m.From.ScanAccounts(ctx, func(some []Account) error {
		if err := m.To.PutAccounts(ctx, some); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		accounts += len(some)
		m.tell(accounts)
		return ctx.Err()
	})
	if err != nil || !mirror {
		return accounts, err
	}
	var only []string
	err = m.To.ScanAccounts(ctx, func(some []Account) error {
		there, err := m.From.ReadAccounts(ctx, namesOf(some))
		if err != nil {
			return err
		}
		only = only[:0]
		for _, a := range some {
			if _, ok := there[a.Name]; !ok {
				only = append(only, a.Name)
			}
		}
		return m.To.DeleteAccounts(ctx, only)
	})
	return accounts, err
}

func namesOf(accounts []Account) []string {
	names := make([]string, len(accounts))
	for i, a := range accounts {
		names[i] = a.Name
	}
	return names
}

// A Difference is an account that is not the same in both stores.
type Difference struct {
	Name string
	// What says in which parts, such as "counts, audit log"; or that only one store has the account.
	What string
}

// Compare compares all accounts of both stores, calls differ for those that are not the same, and returns how many it has looked
// at.
func (m *Move) Compare(ctx context.Context, differ func(Difference)) (accounts int, err error) {
	err = m.From.ScanAccounts(ctx, func(some []Account) error {
		there, err := m.To.ReadAccounts(ctx, namesOf(some))
		if err != nil {
			return err
		}
		now := m.From.Now()
		for _, a := range some {
			what, err := m.difference(a, there, now)
			if err != nil {
				return fmt.Errorf("account %q: %w", a.Name, err)
			}
			if what != "" {
				differ(Difference{a.Name, what})
			}
			old, err := m.tooOld(a, now)
			if err != nil {
				return fmt.Errorf("account %q: %w", a.Name, err)
			}
			m.TooOld.Windows += old.Windows
			m.TooOld.AuditEntries += old.AuditEntries
		}
		accounts += len(some)
		m.tell(accounts)
		return ctx.Err()
	})
	if err != nil {
		return accounts, err
	}
	return accounts, m.To.ScanAccounts(ctx, func(some []Account) error {
		there, err := m.From.ReadAccounts(ctx, namesOf(some))
		if err != nil {
			return err
		}
		for _, a := range some {
			if _, ok := there[a.Name]; ok {
				continue
			}
			_, isEmpty, err := m.Normal(a, m.From.Now())
			if err != nil {
				return fmt.Errorf("account %q: %w", a.Name, err)
			}
			if !isEmpty {
				differ(Difference{a.Name, "only in the target"})
			}
		}
		return ctx.Err()
	})
}

// difference says how an account differs from the one of its name; empty: it does not.
func (v View) difference(a Account, there map[string]Account, at time.Time) (string, error) {
	from, isEmpty, err := v.Normal(a, at)
	if err != nil {
		return "", err
	}
	other, ok := there[a.Name]
	if !ok && isEmpty {
		return "", nil
	}
	if !ok {
		return "not in the target", nil
	}
	to, otherIsEmpty, err := v.Normal(other, at)
	if err != nil {
		return "", err
	}
	if isEmpty && otherIsEmpty {
		return "", nil
	}
	what := ""
	for i := range reflect.TypeFor[Account]().NumField() {
		field := reflect.TypeFor[Account]().Field(i)
		x, y := reflect.ValueOf(from).Field(i).Interface(), reflect.ValueOf(to).Field(i).Interface()
		if reflect.DeepEqual(x, y) {
			continue
		}
		if what != "" {
			what += ", "
		}
		what += words[field.Name]
	}
	return what, nil
}

// words name the parts of an account for people.
var words = map[string]string{
	"Name": "name", "Override": "plan", "ClaimedPlan": "claimed plan", "Terms": "terms", "Windows": "counts and grants", "History": "history", "Bills": "bills",
	"Revision": "revision of bills", "Audit": "audit log", "Changes": "ids of changes", "Crossings": "crossings",
}
