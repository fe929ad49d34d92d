package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// The file has these buckets. Numbers are 8 bytes, big-endian. Times are milliseconds since
// 1970 unless seconds are stated.
//
//	meta    "format" -> "2" or "3", and "+log" after it while usage.db-log may have what the file has not; "log": see
//	        package boltfile
//	used    user 0x00 window 0x00 endpoint -> number of requests counted; then, unless it is
//	        0, by how much the units that they were charged exceed it (see amounts);
//	        an empty endpoint: all of them together, 0 after a reset: so the account is not new
//	grants  as used -> requests granted to the limit on endpoint, or on all; then, unless it is
//	        0, units granted
//	history user 0x00 date (4 bytes) endpoint -> as used, of that day; see history.go
//	bills   user 0x00 hour (4 bytes) revision (8 bytes) endpoint -> as used, of that hour: a quota.Bill; with
//	        revision 0 what is counted and in no bill yet; see bills.go
//	revisions user -> the last revision of a bill; when it was made, in seconds
//	claimed user -> the plan that the user's token claimed when last counted
//	plans   user -> when the override of the user's plan ends, 0: never; the plan's name
//	audit   user 0x00 sequence number, time -> a quota.Change as JSON
//	terms   user -> quota.Terms as text, see terms.go
//	once    user 0x00 ID of a change -> until when it is recognised; its fingerprint
//	crossings user 0x00 sequence number -> a quota.Crossing as JSON, see crossings.go
//	rearmed as used, of all endpoints -> how often counts of the window were taken down, or given another plan
//	ends    kind (1 byte), time in seconds, key -> nothing
//
// Users, windows, endpoints and IDs have no control characters, so 0x00 ends them.
//
// Bucket ends finds what is to be deleted. If its kind is a quota.Period, the time is the end
// of a window, and the key is one in used, in grants, in rearmed, or in several. Otherwise the kind is
// one of those below. There is one key in ends for each key in used, grants, history, bills, revisions, audit,
// once, claimed, terms, crossings and rearmed, and for each plan override that has an end.
//
// Format "1" had only meta, used and ends. Format "2" has only single numbers in used and grants;
// the file gets format "3" with the first second number. Buckets history, bills and revisions came without
// a new format: they are made when they are needed for the first time, and a release that does not know them leaves
// them alone. So it does with crossings and rearmed, which are made when the file is opened.
var (
	metaBucket      = []byte("meta")
	usedBucket      = []byte("used")
	grantsBucket    = []byte("grants")
	historyBucket   = []byte("history")
	billsBucket     = []byte("bills")
	revisionsBucket = []byte("revisions")
	plansBucket     = []byte("plans")
	claimedBucket   = []byte("claimed")
	auditBucket     = []byte("audit")
	termsBucket     = []byte("terms")
	onceBucket      = []byte("once")
	crossingsBucket = []byte("crossings")
	rearmedBucket   = []byte("rearmed")
	endsBucket      = []byte("ends")
	formatKey       = []byte("format")
)

// Kinds of keys in ends, other than a quota.Period.
const (
	auditKind byte = 'a' // the time is when the entry was made
	onceKind  byte = 'o' // the time is when the ID is no longer recognised, rounded up
	planKind  byte = 'p' // the time is the end of the override, rounded up
	// claimedKind: the time is the end of the longest window in which the user was counted
	// when the key was made.
	claimedKind  byte = 'c'
	termsKind    byte = 't' // likewise
	dayKind      byte = 'd' // the time is the date's first second in UTC
	hourKind     byte = 'h' // of bills; the time is the first second of the hour
	revisionKind byte = 'r' // the time is when the last bill was made
	// crossingKind: the time is quota.CrossingLife after the crossing was recorded, rounded up.
	crossingKind byte = 'x'
)

const (
	fileName = "usage.db"
	// format is the version of the file's format. It changes with the meaning of the buckets.
	format = "2"
	// formatUnits is that of a file with units.
	formatUnits = "3"
	// loggedSuffix is added to the format while the log may have what the file has not.
	loggedSuffix = "+log"
)

// cure is what the operator can do about a damaged file.
const cure = "restore it from a backup (docs/backup.md says how), or move it away to start with no counts; \"metergate check\" lists what is wrong"

var logOptions = boltfile.LogOptions{Bucket: metaBucket, Mark: markLogged, IsMarked: isLogged}

// openFile opens or creates the file in dir, and its buckets.
func openFile(dir string, withHistory, withBills bool) (*boltfile.File, error) {
	log := logOptions
	return boltfile.Open(dir, fileName, boltfile.Options{InUse: ErrInUse, Cure: cure, Log: &log}, func(tx *bolt.Tx) error {
		err := createBuckets(tx)
		if err == nil && withHistory {
			_, err = tx.CreateBucketIfNotExists(historyBucket)
		}
		if err == nil && withBills {
			_, err = tx.CreateBucketIfNotExists(billsBucket)
		}
		if err == nil && withBills {
			_, err = tx.CreateBucketIfNotExists(revisionsBucket)
		}
		return err
	})
}

// createBuckets creates the buckets of a new file, upgrades an old one, and refuses a format
// that it does not know.
func createBuckets(tx *bolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		if first, _ := tx.Cursor().First(); first != nil {
			return errors.New("this is another program's database")
		}
		for _, name := range [][]byte{metaBucket, usedBucket, endsBucket} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return upgrade(tx)
	}
	switch got := meta.Get(formatKey); plainFormat(got) {
	case format, formatUnits:
		for _, name := range [][]byte{claimedBucket, termsBucket, crossingsBucket, rearmedBucket} { // the first files of this format lack them
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	case "1":
		return upgrade(tx)
	default:
		return fmt.Errorf("the file has format %q, this version of the program reads only \"1\", %q and %q", got, format, formatUnits)
	}
}

// plainFormat is a format without loggedSuffix.
func plainFormat(got []byte) string { return strings.TrimSuffix(string(got), loggedSuffix) }

// markLogged adds loggedSuffix to the format, or takes it away: a release that does not know the log must not open a file
// that is not whole without it.
func markLogged(tx boltfile.Tx, marked bool) error {
	meta := tx.Bucket(metaBucket)
	got := plainFormat(meta.Get(formatKey))
	if marked {
		got += loggedSuffix
	}
	return meta.Put(formatKey, []byte(got))
}

func isLogged(tx *bolt.Tx) bool {
	return bytes.HasSuffix(tx.Bucket(metaBucket).Get(formatKey), []byte(loggedSuffix))
}

// upgrade adds what format 2 has and format 1 did not.
func upgrade(tx *bolt.Tx) error {
	for _, name := range [][]byte{grantsBucket, plansBucket, claimedBucket, termsBucket, auditBucket, onceBucket, crossingsBucket, rearmedBucket} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put(formatKey, []byte(format))
}

// appendKey appends a key of used and grants to b.
func appendKey(b []byte, user, window, endpoint string) []byte {
	b = slices.Grow(b, len(user)+len(window)+len(endpoint)+2)
	b = append(append(b, user...), 0)
	b = append(append(b, window...), 0)
	return append(b, endpoint...)
}

// userKey is the key of a user's ID in once; with an empty ID, the prefix of the user's keys in
// once and audit.
func userKey(user, id string) []byte { return append(append([]byte(user), 0), id...) }

// windowEndsKey is the key in ends for a key of used or grants in the window w.
func windowEndsKey(w quota.Window, key []byte) []byte {
	return endsKey(byte(w.Period), w.End.Unix(), key)
}

// endsKey is the key in ends for a key of a kind and its time in seconds.
func endsKey(kind byte, seconds int64, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{kind}, uint64(seconds)), key...)
}

// decodeNumber reads 8 bytes; a value that is missing is 0.
func decodeNumber(value []byte) int64 {
	if value == nil {
		return 0
	}
	return int64(binary.BigEndian.Uint64(value[:8]))
}

// readOverride reads a user's override, which may have ended.
func readOverride(plans getter, user []byte) (o quota.Override) {
	value := plans.Get(user)
	if len(value) < 8 {
		return o
	}
	o.Plan = string(value[8:])
	if ms := decodeNumber(value); ms != 0 {
		o.Until = time.UnixMilli(ms).UTC()
	}
	return o
}

// A getter is a bucket that is read.
type getter interface{ Get(key []byte) []byte }

// readOverrides reads the overrides of an account and of the pool of a member's organisation that are in
// force at now.
func readOverrides(plans getter, account string, now time.Time) (own, pool quota.Override) {
	own = readOverride(plans, []byte(account)).ActiveAt(now)
	if name := quota.PoolOf(account); name != "" {
		pool = readOverride(plans, []byte(name)).ActiveAt(now)
	}
	return own, pool
}

// ceilSeconds is t in seconds since 1970, rounded up.
func ceilSeconds(t time.Time) int64 { return t.Add(time.Second - 1).Unix() }

// keysWithPrefix returns copies of the keys that begin with prefix. Deletions move a cursor, so
// they cannot be made while iterating.
func keysWithPrefix(bucket *bolt.Bucket, prefix []byte) (keys [][]byte) {
	cursor := bucket.Cursor()
	for k, _ := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = cursor.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	return keys
}
