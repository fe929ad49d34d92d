package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
	"metergate/quota/record"
)

var _ record.Store = (*Store)(nil)

// accountsPerStep bounds how many accounts one transaction reads.
const accountsPerStep = 100

// accountBuckets are those with keys that begin with an account.
var accountBuckets = [][]byte{usedBucket, grantsBucket, historyBucket, billsBucket, revisionsBucket, claimedBucket, plansBucket, auditBucket,
	termsBucket, onceBucket, crossingsBucket, rearmedBucket}

// ScanAccounts calls yield with all accounts, see record.Store, in the order of their names. Errors are ErrClosed,
// those of yield, of ctx and of the disk, and quota.ErrUserData.
func (s *Store) ScanAccounts(ctx context.Context, yield func([]record.Account) error) error {
	for from := []byte{}; from != nil; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var accounts []record.Account
		err := s.readFile(func(tx *bolt.Tx, _ time.Time) error {
			for from != nil && len(accounts) < accountsPerStep {
				name := nextAccount(tx, from)
				if name == nil {
					from = nil
					break
				}
				a, _, err := readAccount(tx, string(name))
				if err != nil {
					return err
				}
				accounts = append(accounts, a)
				from = append(bytes.Clone(name), 1) // after all keys of this account
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := yield(accounts); err != nil {
			return err
		}
	}
	return nil
}

// nextAccount returns the first account that has a key from some key on; nil: there is none.
func nextAccount(tx *bolt.Tx, from []byte) (first []byte) {
	for _, name := range accountBuckets {
		b := tx.Bucket(name)
		if b == nil {
			continue
		}
		k, _ := b.Cursor().Seek(from)
		if k == nil {
			continue
		}
		if account, _, _ := bytes.Cut(k, []byte{0}); first == nil || bytes.Compare(account, first) < 0 {
			first = account
		}
	}
	return first
}

// ReadAccounts returns accounts by name, see record.Store. Errors are as those of ScanAccounts.
func (s *Store) ReadAccounts(ctx context.Context, names []string) (map[string]record.Account, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found := make(map[string]record.Account, len(names))
	return found, s.readFile(func(tx *bolt.Tx, _ time.Time) error {
		for _, name := range names {
			a, ok, err := readAccount(tx, name)
			if err != nil {
				return err
			}
			if ok {
				found[name] = a
			}
		}
		return nil
	})
}

// eachOf calls visit for the keys of an account in a bucket, without the account and the 0x00 after it.
func eachOf(tx *bolt.Tx, bucket []byte, account string, visit func(k, v []byte) error) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return nil
	}
	prefix, cursor := userKey(account, ""), b.Cursor()
	for k, v := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = cursor.Next() {
		if err := visit(k[len(prefix):], v); err != nil {
			return err
		}
	}
	return nil
}

// readAccount reads all that the file has of an account. ok: it has something.
func readAccount(tx *bolt.Tx, name string) (a record.Account, ok bool, err error) {
	a.Name = name
	windows := windowReader{account: &a, counters: map[string]int{}}
	key := []byte(name)
	a.Override = readOverride(tx.Bucket(plansBucket), key)
	a.ClaimedPlan = string(tx.Bucket(claimedBucket).Get(key))
	a.Terms = string(tx.Bucket(termsBucket).Get(key))
	if b := tx.Bucket(revisionsBucket); b != nil {
		if v := b.Get(key); len(v) == 16 {
			a.Revision, a.RevisionUntil = decodeNumber(v), time.Unix(decodeNumber(v[8:]), 0).UTC().Add(revisionLife)
		}
	}
	for bucket, visit := range map[string]func(k, v []byte) error{
		string(usedBucket): func(k, v []byte) error {
			n, c := decodeAmounts(v), windows.counter(k)
			c.Requests, c.Extra = n.requests, n.extra
			return nil
		},
		string(grantsBucket): func(k, v []byte) error {
			n, c := decodeAmounts(v), windows.counter(k)
			c.GrantedRequests, c.GrantedUnits = n.requests, n.extra
			return nil
		},
		string(rearmedBucket): func(k, v []byte) error {
			id, _, _ := bytes.Cut(k, []byte{0})
			windows.window(string(id)).Rearmed = decodeNumber(v)
			return nil
		},
		string(historyBucket): func(k, v []byte) error {
			n := decodeAmounts(v)
			a.History = append(a.History, record.Day{Date: quota.Date(binary.BigEndian.Uint32(k)), Endpoint: string(k[4:]), Used: quota.Used{Requests: n.requests, Units: n.used(quota.Units)}})
			return nil
		},
		string(billsBucket): func(k, v []byte) error {
			a.Bills = append(a.Bills, readBill(k, v))
			return nil
		},
		string(auditBucket): func(k, v []byte) error {
			a.Audit = append(a.Audit, record.Entry{At: auditKeyTime(k).UTC(), JSON: string(v)})
			return nil
		},
		string(onceBucket): func(k, v []byte) error {
			a.Changes = append(a.Changes, record.ChangeID{ID: string(k), Fingerprint: string(v[8:]), Until: time.UnixMilli(decodeNumber(v)).UTC()})
			return nil
		},
		string(crossingsBucket): func(_, v []byte) error {
			var c quota.Crossing
			if err := json.Unmarshal(v, &c); err != nil {
				return fmt.Errorf("%w: a crossing of %q: %w", quota.ErrUserData, name, err)
			}
			a.Crossings = append(a.Crossings, c)
			return nil
		},
	} {
		if err := eachOf(tx, []byte(bucket), name, visit); err != nil {
			return a, false, err
		}
	}
	some := len(a.Windows) + len(a.History) + len(a.Bills) + len(a.Audit) + len(a.Changes) + len(a.Crossings)
	return a, some > 0 || a.Override.Plan != "" || a.ClaimedPlan != "" || a.Terms != "" || a.Revision != 0, nil
}

// A windowReader finds the windows and counters of an account.
type windowReader struct {
	account  *record.Account
	counters map[string]int // of a key of used: its index in the window
}

func (r *windowReader) window(id string) *record.Window {
	for i := range r.account.Windows {
		if r.account.Windows[i].ID == id {
			return &r.account.Windows[i]
		}
	}
	r.account.Windows = append(r.account.Windows, record.Window{ID: id})
	return &r.account.Windows[len(r.account.Windows)-1]
}

// counter returns the one of a key of used or grants, without the account.
func (r *windowReader) counter(k []byte) *record.Counter {
	id, endpoint, _ := bytes.Cut(k, []byte{0})
	w := r.window(string(id))
	i, ok := r.counters[string(k)]
	if !ok {
		i = len(w.Counters)
		r.counters[string(k)] = i
		w.Counters = append(w.Counters, record.Counter{Endpoint: string(endpoint)})
	}
	return &w.Counters[i]
}

// PutAccounts replaces accounts, see record.Store, all of them in one write. Errors are as those of ScanAccounts.
func (s *Store) PutAccounts(ctx context.Context, accounts []record.Account) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var crossing []string
	var recorded time.Time
	err := s.write(func(tx boltfile.Tx, now time.Time) (created int, err error) {
		crossing = nil
		for i := range accounts {
			if err := s.deleteAccount(tx, accounts[i].Name); err != nil {
				return 0, err
			}
			w := accountWriter{tx: tx, store: s, account: &accounts[i], now: now}
			if err := w.put(); err != nil {
				return 0, err
			}
			if len(accounts[i].Crossings) > 0 {
				crossing, recorded = append(crossing, accounts[i].Name), now
			}
			s.hasGrants.CompareAndSwap(false, w.hasGrants)
			s.hasOverrides.CompareAndSwap(false, accounts[i].Override.Plan != "")
		}
		return 100 * len(accounts), nil
	})
	s.crossings.add(crossing, recorded)
	for _, a := range accounts {
		s.watchers.Notify(a.Name)
	}
	return err
}

// DeleteAccounts drops accounts, see record.Store. Errors are as those of ScanAccounts.
func (s *Store) DeleteAccounts(ctx context.Context, names []string) error {
	if err := ctx.Err(); err != nil || len(names) == 0 {
		return err
	}
	return s.write(func(tx boltfile.Tx, _ time.Time) (created int, err error) {
		for _, name := range names {
			if err := s.deleteAccount(tx, name); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
}

// deleteAccount deletes all that the file has of an account. Keys in ends that stay find nothing, or the same key
// again; that of a revision would take a later one with it.
func (s *Store) deleteAccount(tx boltfile.Tx, account string) error {
	if b := tx.Tx.Bucket(revisionsBucket); b != nil {
		if v := b.Get([]byte(account)); len(v) == 16 {
			if err := tx.Bucket(endsBucket).Delete(endsKey(revisionKind, decodeNumber(v[8:]), []byte(account))); err != nil {
				return err
			}
		}
	}
	for _, name := range accountBuckets {
		if tx.Tx.Bucket(name) == nil {
			continue
		}
		bucket := tx.Bucket(name)
		for _, k := range append(keysWithPrefix(bucket.Bucket, userKey(account, "")), []byte(account)) {
			if err := bucket.Delete(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// An accountWriter writes an account that the file does not have.
type accountWriter struct {
	tx        boltfile.Tx
	store     *Store
	account   *record.Account
	now       time.Time
	hasGrants bool
}

func (w *accountWriter) put() error {
	for _, step := range []func() error{w.putWindows, w.putPlan, w.putHistory, w.putBills, w.putLog, w.putCrossings} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// putKey writes a key with a value, and its key in ends.
func (w *accountWriter) putKey(bucket, key, value, ends []byte) error {
	if err := w.tx.Bucket(bucket).Put(key, value); err != nil {
		return err
	}
	return w.tx.Bucket(endsBucket).Put(ends, nil)
}

// putAmounts is putKey for amounts; zeros are left out.
func (w *accountWriter) putAmounts(bucket, key []byte, n amounts, ends []byte) error {
	if n == (amounts{}) {
		return nil
	}
	if err := w.tx.Bucket(endsBucket).Put(ends, nil); err != nil {
		return err
	}
	return putAmounts(w.tx, w.tx.Bucket(bucket), key, n)
}

func (w *accountWriter) putWindows() error {
	live, windows, err := record.View{Calendar: w.store.calendar, Keep: w.store.keep}.Live(*w.account, w.now)
	if err != nil {
		return fmt.Errorf("%w: account %q: %w", quota.ErrUserData, w.account.Name, err)
	}
	for i, window := range windows {
		total := appendKey(nil, w.account.Name, window.ID, "")
		if err := w.putKey(usedBucket, total, make([]byte, 8), windowEndsKey(window, total)); err != nil { // see changeTx.putTotal
			return err
		}
		for _, c := range live.Windows[i].Counters {
			key := appendKey(nil, w.account.Name, window.ID, c.Endpoint)
			if err := w.putAmounts(usedBucket, key, amounts{c.Requests, c.Extra}, windowEndsKey(window, key)); err != nil {
				return err
			}
			granted := amounts{c.GrantedRequests, c.GrantedUnits}
			w.hasGrants = w.hasGrants || granted != (amounts{})
			if err := w.putAmounts(grantsBucket, key, granted, windowEndsKey(window, key)); err != nil {
				return err
			}
		}
		if n := live.Windows[i].Rearmed; n != 0 {
			key := appendKey(nil, w.account.Name, window.ID, "")
			if err := w.putKey(rearmedBucket, key, binary.BigEndian.AppendUint64(nil, uint64(n)), windowEndsKey(window, key)); err != nil {
				return err
			}
		}
	}
	return nil
}

// putPlan writes what decides about the plan, and the terms.
func (w *accountWriter) putPlan() error {
	key := []byte(w.account.Name)
	if o := w.account.Override; o.Plan != "" {
		until := int64(0)
		if !o.Until.IsZero() {
			until = o.Until.UnixMilli()
			if err := w.tx.Bucket(endsBucket).Put(endsKey(planKind, ceilSeconds(o.Until), key), nil); err != nil {
				return err
			}
		}
		if err := w.tx.Bucket(plansBucket).Put(key, append(binary.BigEndian.AppendUint64(nil, uint64(until)), o.Plan...)); err != nil {
			return err
		}
	}
	if w.account.ClaimedPlan != "" {
		if err := w.putKey(claimedBucket, key, []byte(w.account.ClaimedPlan), endsKey(claimedKind, w.now.Unix(), key)); err != nil {
			return err
		}
	}
	terms, err := quota.ParseTerms(w.account.Terms)
	if err != nil {
		return err
	}
	return putTerms(w.tx, w.account.Name, terms, w.store.calendar, w.now)
}

func (w *accountWriter) putHistory() error {
	if len(w.account.History) == 0 {
		return nil
	}
	if _, err := w.tx.CreateBucketIfNotExists(historyBucket); err != nil {
		return err
	}
	for _, d := range w.account.History {
		key := append(appendDayKey(nil, w.account.Name, d.Date), d.Endpoint...)
		if err := w.putAmounts(historyBucket, key, amounts{d.Used.Requests, d.Used.Units - d.Used.Requests}, dayEndsKey(d.Date, key)); err != nil {
			return err
		}
	}
	return nil
}

func (w *accountWriter) putBills() error {
	if len(w.account.Bills) == 0 && w.account.Revision == 0 {
		return nil
	}
	for _, name := range [][]byte{billsBucket, revisionsBucket} {
		if _, err := w.tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	for _, b := range w.account.Bills {
		key := billKey(w.account.Name, b)
		if err := w.putAmounts(billsBucket, key, amounts{b.Used.Requests, b.Used.Units - b.Used.Requests}, billEndsKey(b.Hour, key)); err != nil {
			return err
		}
	}
	if w.account.Revision == 0 {
		return nil
	}
	return putRevision(w.tx, w.account.Name, w.account.Revision, w.account.RevisionUntil.Add(-revisionLife))
}

// putLog writes the audit log, and the IDs of changes.
func (w *accountWriter) putLog() error {
	audit := w.tx.Bucket(auditBucket)
	for _, e := range w.account.Audit {
		number, err := audit.NextSequence()
		if err != nil {
			return err
		}
		key := binary.BigEndian.AppendUint64(userKey(w.account.Name, ""), number)
		key = binary.BigEndian.AppendUint64(key, uint64(e.At.UnixMilli()))
		if err := w.putKey(auditBucket, key, []byte(e.JSON), endsKey(auditKind, e.At.Unix(), key)); err != nil {
			return err
		}
	}
	for _, c := range w.account.Changes {
		key, value := userKey(w.account.Name, c.ID), binary.BigEndian.AppendUint64(nil, uint64(c.Until.UnixMilli()))
		if err := w.putKey(onceBucket, key, append(value, c.Fingerprint...), endsKey(onceKind, ceilSeconds(c.Until), key)); err != nil {
			return err
		}
	}
	return nil
}

func (w *accountWriter) putCrossings() error {
	bucket := w.tx.Bucket(crossingsBucket)
	for _, c := range w.account.Crossings {
		number, err := bucket.NextSequence()
		if err != nil {
			return err
		}
		value, err := json.Marshal(c)
		if err != nil {
			return err
		}
		key := binary.BigEndian.AppendUint64(userKey(w.account.Name, ""), number)
		if err := w.putKey(crossingsBucket, key, value, crossingEndsKey(c, key)); err != nil {
			return err
		}
	}
	return nil
}
