package admin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"metergate/quota"
)

const (
	// maxUsersPerRequest bounds the users in one request, so that it ends within writeTimeout.
	maxUsersPerRequest = 1000
	// countsAtOnce is how many users' counts, or bills, are sent to the store at a time. The embedded
	// store brings them to disk in one write.
	countsAtOnce = 64
)

// userCounts is one line of a request to set counts.
type userCounts struct {
	account string
	counts  endpointCounts
	units   endpointCounts // nil: each request is one
	number  int            // of the line in the body, from 1
	// start and end are those of the window that the counts were read from; zero: the request does
	// not say.
	start, end time.Time
}

// putCounts serves PUT /admin/counts: the counts of many users, in JSON Lines. The whole request
// is checked before anything is changed; with dry_run=true that is all. Lines may say from which window
// their counts are, with start and end. If that is not the running one, the answer is 409.
func (h *handler) putCounts(w http.ResponseWriter, r *http.Request) {
	c := &userRequest{Options: h.Options, w: w, r: r}
	users, counts, err := c.setAllCounts()
	if other := (*otherWindowsError)(nil); errors.As(err, &other) {
		other.write(w)
		return
	}
	if err != nil {
		writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Users  int `json:"users"`
		Counts int `json:"counts"`
	}{users, counts})
}

func (c *userRequest) setAllCounts() (users, counts int, err error) {
	query, err := c.queryParams("per", "reason", "dry_run")
	if err != nil {
		return 0, 0, err
	}
	change := quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, By: remoteHost(c.r), Reason: query["reason"]}
	if per, ok := query["per"]; ok {
		if err := change.Period.UnmarshalText([]byte(per)); err != nil {
			return 0, 0, badRequest("query: per: %v", err)
		}
	}
	noteReason(c.w, change.Reason)
	dryRun := query["dry_run"]
	if dryRun == "true" {
		noteNoChange(c.w)
	}
	if dryRun != "" && dryRun != "true" && dryRun != "false" {
		return 0, 0, badRequest("query: dry_run: must be true or false, got %.80q", dryRun)
	}
	if change.ID, err = c.idempotencyKey(); err != nil {
		return 0, 0, err
	}
	lines, err := c.readCounts(change)
	if err != nil {
		return 0, 0, err
	}
	for _, line := range lines {
		counts += len(line.counts)
	}
	noteDetail(c.w, "%d counts of %d users, per %s", counts, len(lines), change.Period)
	if err := c.checkWindows(lines, change.Period); err != nil || dryRun == "true" {
		return len(lines), counts, err
	}
	return len(lines), counts, c.applyCounts(lines, change)
}

// readCounts reads the lines of the body, and checks that each can be a change.
func (c *userRequest) readCounts(change quota.Change) ([]userCounts, error) {
	if err := checkContentType(c.r.Header.Get("Content-Type"), "application/jsonl"); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(c.r.Body) // which has a bound
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, requestError{status: http.StatusRequestEntityTooLarge, detail: fmt.Sprintf("The body may have at most %d bytes and %d users. Send more requests.", maxBodyBytes, maxUsersPerRequest)}
	case err != nil:
		return nil, badRequest("body: ended early")
	}
	known := c.Gateway.PlansFor("").Claimed.Endpoints()
	lineByUser, lines, number := map[string]int{}, []userCounts(nil), 0
	for text := range bytes.Lines(text) {
		number++
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		line, org, user := userCounts{number: number}, "", ""
		fault := members{"org": &org, "user": &user, "endpoints": &line.counts, "units": &line.units, "start": &line.start, "end": &line.end}.decode(text)
		if fault == nil {
			change.Counts, change.CountUnits = line.counts, line.units
			if line.account, fault = quota.CheckedAccount(org, user); fault == nil {
				fault = change.Validate(line.account)
			}
		}
		if errors.Is(fault, quota.ErrInvalidChange) {
			fault = errors.New(invalidChangeText(fault))
		}
		if before, twice := lineByUser[line.account]; fault == nil && twice {
			fault = fmt.Errorf("%s is already in line %d", accountText(line.account), before)
		}
		if fault != nil {
			return nil, badRequest("line %d: %v", number, fault)
		}
		for endpoint, n := range line.counts {
			if n > 0 && !slices.Contains(known, endpoint) {
				return nil, unknownEndpoint(fmt.Sprintf("line %d", number), endpoint, known)
			}
		}
		lineByUser[line.account] = number
		lines = append(lines, line)
	}
	if len(lines) == 0 || len(lines) > maxUsersPerRequest {
		return nil, badRequest(`body: must have 1 to %d lines like {"user": "u-17", "endpoints": {"analyze": 30}}, got %d`, maxUsersPerRequest, len(lines))
	}
	return lines, nil
}

// applyCounts sets all counts, and stops at the first error. Counts are set, not added: all lines
// can be sent again.
func (c *userRequest) applyCounts(lines []userCounts, change quota.Change) error {
	done, err := eachLine(lines, func(line userCounts) error { return c.applyCountsOf(line, change) })
	if err == nil {
		return nil
	}
	detail, status := "The store does not answer.", http.StatusServiceUnavailable
	if quota.StoreResponded(err) {
		detail, status = err.Error()+".", http.StatusUnprocessableEntity
	}
	return requestError{status: status, detail: fmt.Sprintf("%s The counts of %d of %d users are set. Send all of them again: counts are set, not added.", detail, done, len(lines))}
}

// eachLine calls do with the lines, countsAtOnce at a time, until one fails. done is for how many it
// succeeded.
func eachLine[T any](lines []T, do func(T) error) (done int, err error) {
	var next, succeeded atomic.Int64
	var failed atomic.Pointer[error]
	var workers sync.WaitGroup
	for range min(countsAtOnce, len(lines)) {
		workers.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(lines) {
					return
				}
				if err := do(lines[i]); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				succeeded.Add(1)
			}
		})
	}
	workers.Wait()
	if failed := failed.Load(); failed != nil {
		err = *failed
	}
	return int(succeeded.Load()), err
}

func (c *userRequest) applyCountsOf(line userCounts, change quota.Change) error {
	of := *c
	of.account, change.Counts, change.CountUnits = line.account, line.counts, line.units
	plans, _, err := of.userPlans("")
	if err != nil {
		return err
	}
	if _, err = c.Store.ApplyChange(c.r.Context(), line.account, plans, change); quota.StoreResponded(err) && err != nil {
		return fmt.Errorf("%s: %w", accountText(line.account), err)
	}
	return err
}

// accountText names an account in an error.
func accountText(account string) string {
	switch org, user := quota.SplitAccount(account); {
	case org == "":
		return fmt.Sprintf("user %q", user)
	case user == "":
		return fmt.Sprintf("organisation %q", org)
	default:
		return fmt.Sprintf("user %q of organisation %q", user, org)
	}
}
