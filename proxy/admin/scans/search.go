package scans

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"metergate/quota"
)

// keptRows is how many users a search keeps, the first by its order.
const keptRows = 2000

// Orders of a Search.
const (
	ByPercent = "percent" // of the limit that is nearest to being used up
	ByUsed    = "used"
	ByUser    = "user"
	ByPlan    = "plan"
)

// States of a Search. What is near has the status "warning".
const (
	AnyState = "any"
	Near     = "near"
	Blocked  = "blocked"
)

// A Search looks for users.
type Search struct {
	Plans      PlanSet
	Sort       string // ByPercent, ByUsed, ByUser or ByPlan
	Descending bool
	Plan       string // only users on this plan; empty: on any
	State      string // AnyState, Near or Blocked
	Text       string // part of the user's id, in upper or lower case; who has it as their id comes first
	Org        string // only members of this organisation; empty: everybody
	Limit      int    // users in a page, 1 or more
	After      *Cursor
}

// A Page is the answer to a Search.
type Page struct {
	Users   []*Row `json:"users"`
	Matched int64  `json:"matched"` // users that the search has found, on all pages
	Progress
	Next *string `json:"next"` // the cursor of the next page; null: this is the last, or the scan is not done
}

// A Row is a user in a Page. Used, Limit and Percent are those of the headline limit, as in the usage
// object.
type Row struct {
	User      string       `json:"user"`
	Org       string       `json:"org,omitempty"`
	Plan      string       `json:"plan"`
	Unit      string       `json:"unit"`
	Used      int64        `json:"used"`
	Limit     *int64       `json:"limit"`
	Percent   *int64       `json:"percent"`
	Status    quota.Status `json:"status"`     // that of Nearest
	Nearest   *NearestRow  `json:"nearest"`    // the hard limit of which the largest part is used; null: there is none
	Override  bool         `json:"override"`   // an administrator has set the plan, for the user or their organisation
	BlockedBy []string     `json:"blocked_by"` // hard limits of which nothing is left
	at        position
}

// A NearestRow is a limit in a Row.
type NearestRow struct {
	Limit   string `json:"limit"`
	Used    int64  `json:"used"`
	Of      int64  `json:"of"`
	Percent int64  `json:"percent"`
}

// A position is where a user stands in the order of a search. No two users have the same.
type position struct {
	Exact   bool   `json:"e,omitempty"` // the user has the id that is looked for
	Number  int64  `json:"n,omitempty"`
	Text    string `json:"t,omitempty"`
	Account string `json:"a"`
}

// A Cursor is a position in the list of one search.
type Cursor struct {
	Search uint64 `json:"s"` // a digest of what the cursor is for
	position
}

// ErrCursor says that a cursor is not one of the search.
var ErrCursor = errors.New("the cursor is not one that this search has returned; begin without it")

// String returns what SetCursor reads.
func (c Cursor) String() string {
	text, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("scans: %v", err)) // it has nothing that cannot be written
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// SetCursor has the search go on after a cursor, which a page of the same search has had as Next.
func (s *Search) SetCursor(text string) error {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	var c Cursor
	if err != nil || json.Unmarshal(raw, &c) != nil || c.Search != s.digest() || c.Account == "" {
		return ErrCursor
	}
	s.After = &c
	return nil
}

func (s *Search) key() string {
	return fmt.Sprintf("users %q %t %q %q %q %q", s.Sort, s.Descending, s.Plan, s.State, s.Text, s.Org)
}

func (s *Search) digest() uint64 {
	h := fnv.New64a()
	h.Write([]byte(s.key()))
	return h.Sum64() >> 11 // exact in JSON for JavaScript as well
}

func (s *Search) plans() PlanSet { return s.Plans }

func (s *Search) collector() collector {
	return &searchResult{Search: *s, lower: strings.ToLower(s.Text), kept: map[string]position{}}
}

func (s *Search) fits(c collector, done bool) bool {
	r, ok := c.(*searchResult)
	if !ok {
		return false
	}
	if s.After == nil || r.After != nil && *r.After == *s.After {
		return (s.After == nil) == (r.After == nil)
	}
	if !done || r.After != nil && s.compare(r.After.position, s.After.position) > 0 {
		return false
	}
	return !r.dropped || r.indexAfter(s.After)+s.Limit <= len(r.rows)
}

func (s *Search) page(c collector, p Progress) any {
	r := c.(*searchResult)
	from := r.indexAfter(s.After)
	to := min(from+s.Limit, len(r.rows))
	page := Page{Users: slices.Clone(r.rows[from:to]), Matched: r.matched, Progress: p}
	if page.Users == nil {
		page.Users = []*Row{}
	}
	if p.Done && to > from && (to < len(r.rows) || r.dropped) {
		next := Cursor{s.digest(), r.rows[to-1].at}.String()
		page.Next = &next
	}
	return page
}

// compare compares positions in the order of the search.
func (s *Search) compare(a, b position) int {
	if a.Exact != b.Exact {
		if a.Exact {
			return -1
		}
		return 1
	}
	by := cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(a.Text, b.Text))
	if s.Descending {
		by = -by
	}
	if by != 0 {
		return by
	}
	orgA, userA := quota.SplitAccount(a.Account)
	orgB, userB := quota.SplitAccount(b.Account)
	return cmp.Or(strings.Compare(userA, userB), strings.Compare(orgA, orgB))
}

// A searchResult has the first users by the order of a search, after its cursor.
type searchResult struct {
	Search
	lower   string // the Text in lower case
	rows    []*Row // sorted
	kept    map[string]position
	matched int64
	dropped bool // there were more
	seeded  string
}

func (r *searchResult) query() quota.SnapshotQuery {
	q := quota.SnapshotQuery{Org: r.Org, Plans: r.Plans.claimedBy}
	if r.Text != "" {
		q.Wanted = func(account string) bool {
			_, user := quota.SplitAccount(account)
			return strings.Contains(user, r.Text) || strings.Contains(strings.ToLower(user), r.lower)
		}
	}
	return q
}

// seed looks for the user with exactly the id that is looked for, so that they are on the first page at
// once.
func (r *searchResult) seed(ctx context.Context, store Store, add func(quota.UserSnapshot) error) error {
	account, err := quota.CheckedAccount(r.Org, r.Text)
	if err != nil || r.Text == "" || r.After != nil {
		return nil
	}
	claimed, err := store.ClaimedPlan(ctx, account)
	if err != nil {
		return err
	}
	plans := r.Plans.claimedBy(claimed)
	plans.Scope = quota.ScopeOf(account)
	s, err := store.Read(ctx, account, plans)
	if err != nil {
		return err
	}
	isKnown := claimed != "" || s.Total.Used > 0 || s.Override != (quota.Override{})
	if !isKnown {
		return nil
	}
	err = add(quota.UserSnapshot{Account: account, ClaimedPlan: claimed, Snapshot: s})
	r.seeded = account
	return err
}

// add adds a user, if the search is for them.
func (r *searchResult) add(u quota.UserSnapshot) {
	s := u.Snapshot
	status, blockedBy := StatusOf(s)
	if r.Plan != "" && s.Plan.Name() != r.Plan || r.State == Blocked && status != quota.StatusBlocked || r.State == Near && status != quota.StatusWarning {
		return
	}
	if u.Account != r.seeded {
		r.matched++
	}
	at := r.positionOf(&u)
	if r.After != nil && r.compare(at, r.After.position) <= 0 {
		return
	}
	if before, twice := r.kept[u.Account]; twice {
		r.rows = slices.Delete(r.rows, r.index(before), r.index(before)+1)
		delete(r.kept, u.Account)
	}
	if len(r.rows) == keptRows {
		r.dropped = true
		last := r.rows[keptRows-1].at
		if r.compare(at, last) >= 0 {
			return
		}
		delete(r.kept, last.Account)
		r.rows = r.rows[:keptRows-1]
	}
	r.rows = slices.Insert(r.rows, r.index(at), newRow(&u, at, status, blockedBy))
	r.kept[u.Account] = at
}

// index is where a position is, or would be, among the rows.
func (r *searchResult) index(at position) int {
	i, _ := slices.BinarySearchFunc(r.rows, at, func(row *Row, at position) int { return r.compare(row.at, at) })
	return i
}

// indexAfter is the index of the first row after a cursor.
func (r *searchResult) indexAfter(c *Cursor) int {
	if c == nil {
		return 0
	}
	i, found := slices.BinarySearchFunc(r.rows, c.position, func(row *Row, at position) int { return r.compare(row.at, at) })
	if found {
		i++
	}
	return i
}

func (r *searchResult) positionOf(u *quota.UserSnapshot) position {
	_, user := quota.SplitAccount(u.Account)
	at := position{Exact: r.Text != "" && user == r.Text, Account: u.Account}
	switch r.Sort {
	case ByUsed:
		at.Number = u.Snapshot.Total.Used
	case ByUser:
		at.Text = user
	case ByPlan:
		at.Text = u.Snapshot.Plan.Name()
	default:
		if _, percent, ok := u.Snapshot.Nearest(); ok {
			at.Number = percent
		} else {
			at.Number = -1
		}
	}
	return at
}

// StatusOf returns the status of the hard limit that is nearest to being used up, and the names of those
// of which nothing is left. In observe mode, none blocks.
func StatusOf(s quota.Snapshot) (quota.Status, []string) {
	i, _, ok := s.Nearest()
	if !ok {
		return quota.StatusOK, nil
	}
	status := s.StatusOf(i)
	if status != quota.StatusBlocked {
		return status, nil
	}
	if s.Plan.Observes() {
		return quota.StatusWarning, nil
	}
	var names []string
	for i, l := range s.Plan.Limits() {
		if !l.Soft && s.StatusOf(i) == quota.StatusBlocked {
			names = append(names, l.Name())
		}
	}
	return status, names
}

func newRow(u *quota.UserSnapshot, at position, status quota.Status, blockedBy []string) *Row {
	s := u.Snapshot
	row := &Row{Plan: s.Plan.Name(), Unit: s.Plan.HeadlineQuantity().String(), Used: s.Total.Used, Status: status,
		Override: s.Override != (quota.Override{}), BlockedBy: blockedBy, at: at}
	row.Org, row.User = quota.SplitAccount(u.Account)
	if row.BlockedBy == nil {
		row.BlockedBy = []string{}
	}
	if i, ok := s.Plan.Headline(); ok {
		limit := s.Allowance(i)
		percent := quota.Percent(s.Limits[i].Used, limit)
		row.Limit, row.Percent = &limit, &percent
	}
	row.Nearest = NearestOf(s)
	return row
}

// NearestOf returns the hard limit of which the largest part is used. It returns nil for a plan without hard limits.
func NearestOf(s quota.Snapshot) *NearestRow {
	i, percent, ok := s.Nearest()
	if !ok {
		return nil
	}
	return &NearestRow{s.Plan.Limits()[i].Name(), s.Limits[i].Used, s.Allowance(i), percent}
}

func (s *Search) keep() time.Duration {
	if s.After != nil {
		return keptFor
	}
	return freshFor
}
