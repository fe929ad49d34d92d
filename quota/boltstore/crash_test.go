package boltstore

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"metergate/quota"
	"metergate/quota/quotatest"
)

// childDir, if set, makes the test binary a gateway of its own: it commits without end, and
// writes the user's name after each commit that returned. After every third commit of a user it ends their oldest
// crossing, and writes what was used at it.
const childDir = "BOLTSTORE_TEST_CHILD_DIR"

const childUsers = 20

// childPlan has a threshold at every count.
var childPlan = func() *quota.Plan {
	at := make([]int, quota.MaxThreshold)
	for i := range at {
		at[i] = i + 1
	}
	return quotatest.NewNotifyingPlan("plan", at, quota.Limit{Amount: 100, Period: quota.Month, Soft: true})
}()

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func child(dir string) {
	s, err := Open(dir, Options{BillingHours: 48})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() {
		for {
			if _, err := scanOpenBills(s); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	}()
	var wait sync.WaitGroup
	for i := range childUsers {
		wait.Go(func() {
			err := childUser(s, fmt.Sprint("user-", i))
			fmt.Println(err)
			os.Exit(1)
		})
	}
	wait.Wait()
}

func childUser(s *Store, user string) error {
	for i := 1; ; i++ {
		d, err := s.Reserve(ctx, request(user, childPlan))
		if err == nil {
			_, err = s.Commit(ctx, &d.Reservation)
		}
		if err != nil {
			return err
		}
		os.Stdout.WriteString(user + " has used\n") // in one write, without a buffer
		if i%3 > 0 {
			continue
		}
		crossings, err := s.CrossingsOf(ctx, user)
		if err == nil {
			err = s.EndCrossings(ctx, user, []string{crossings[0].ID})
		}
		if err != nil {
			return err
		}
		os.Stdout.WriteString(fmt.Sprint(user, " ended ", crossings[0].Used, "\n"))
	}
}

// scanOpenBills makes bills also of the hour that runs, and returns how many requests they have, by user.
func scanOpenBills(s *Store) (map[string]int64, error) {
	requests := map[string]int64{}
	err := s.ScanBills(ctx, quota.BillQuery{Before: quota.BillHourAt(s.Now()) + 2}, func(a quota.AccountBills) error {
		for _, b := range a.Bills {
			requests[a.Account] += b.Used.Requests
		}
		return nil
	})
	return requests, err
}

// A gateway is killed while it commits, four times. Every commit that returned is counted once.
// In addition, at most the one commit that each user had under way is counted. What is counted is billed once,
// although the gateway also made bills all the time. Each count has crossed a threshold, and has its crossing until it
// was ended.
func TestCrashLosesNothing(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, acknowledged, ended := t.TempDir(), map[string]int64{}, map[string]map[int64]bool{}
	for i := range childUsers {
		ended[fmt.Sprint("user-", i)] = map[int64]bool{}
	}
	for life := range int64(4) {
		runChild(t, exe, dir, 250+int(life)*7, func(user, what string) {
			if used := int64(0); what == "has used" {
				acknowledged[user]++
			} else if _, err := fmt.Sscanf(what, "ended %d", &used); err == nil {
				ended[user][used] = true
			}
		})
		s := open(t, dir, Options{BillingHours: 48})
		billed, err := scanOpenBills(s)
		if err != nil {
			t.Fatal(err)
		}
		for i := range childUsers {
			user := fmt.Sprint("user-", i)
			snap, err := s.Read(ctx, user, childPlan.OnlyChoice())
			if err != nil {
				t.Fatal(err)
			}
			low := acknowledged[user]
			if used := snap.Total.Used; used < low || used > low+1 || snap.Total.Held != 0 {
				t.Errorf("life %d: %s has used %d and holds %d after %d commits that returned, want at most one more used",
					life, user, used, snap.Total.Held, low)
			}
			if billed[user] != snap.Total.Used {
				t.Errorf("life %d: %s has used %d, and is billed %d", life, user, snap.Total.Used, billed[user])
			}
			acknowledged[user] = snap.Total.Used // the next life starts from there
			wantCrossingOfEachCount(t, s, user, snap.Total.Used, ended[user])
		}
		wantClaimed(t, s, childUsers)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// runChild runs a gateway until it has written so many lines, kills it, and calls line for each of them.
func runChild(t *testing.T, exe, dir string, lines int, line func(user, what string)) {
	t.Helper()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() // "signal: killed"
	reader := bufio.NewReader(out)
	for n := 0; ; n++ {
		text, err := reader.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return
		}
		user, what, _ := strings.Cut(strings.TrimSpace(text), " ")
		if err != nil || !strings.HasPrefix(user, "user-") {
			cmd.Process.Kill()
			t.Fatalf("the child wrote %q, error %v", text, err)
		}
		line(user, what)
		switch n {
		case 0:
			if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) {
				t.Errorf("Open while another process has the file: %v, want %v", err, ErrInUse)
			}
		case lines:
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// wantCrossingOfEachCount checks that each count has a crossing, unless that was ended. One more may have
// been ended; it is added to those that were.
func wantCrossingOfEachCount(t *testing.T, s *Store, user string, used int64, ended map[int64]bool) {
	t.Helper()
	crossings, err := s.CrossingsOf(ctx, user)
	if err != nil {
		t.Fatal(err)
	}
	found, ids := map[int64]bool{}, map[string]bool{}
	for _, c := range crossings {
		if ended[c.Used] || found[c.Used] || ids[c.ID] || int64(c.Threshold) != c.Used {
			t.Errorf("%s has %+v, which was ended (%v) or is there twice", user, c, ended[c.Used])
		}
		found[c.Used], ids[c.ID] = true, true
	}
	var missing []int64
	for n := range used {
		if n++; !found[n] && !ended[n] {
			missing = append(missing, n)
		}
	}
	if len(missing) > 1 || int64(len(found)) > used {
		t.Errorf("%s has used %d; there are %d crossings, and of the counts %v there are none", user, used, len(found), missing)
	}
	for _, n := range missing {
		ended[n] = true
	}
}

// wantClaimed checks that so many accounts can be claimed.
func wantClaimed(t *testing.T, s *Store, accounts int) {
	t.Helper()
	claims, err := s.ClaimCrossings(ctx, 1000)
	if err != nil || len(claims.Claims) != accounts || claims.Waiting != int64(accounts) || accounts > 0 && claims.Oldest.IsZero() {
		t.Errorf("%d accounts are claimed, and %d wait, the first since %v; error %v; want %d", len(claims.Claims), claims.Waiting, claims.Oldest, err, accounts)
	}
}
