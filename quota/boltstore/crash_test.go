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
)

// childDir, if set, makes the test binary a gateway of its own: it commits without end, and
// writes the user's name after each commit that returned.
const childDir = "BOLTSTORE_TEST_CHILD_DIR"

const childUsers = 20

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
			user, p := fmt.Sprint("user-", i), plan(quota.MaxAmount)
			for {
				d, err := s.Reserve(ctx, request(user, p))
				if err == nil {
					_, err = s.Commit(ctx, &d.Reservation)
				}
				if err != nil {
					fmt.Println(err)
					os.Exit(1)
				}
				os.Stdout.WriteString(user + "\n") // in one write, without a buffer
			}
		})
	}
	wait.Wait()
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
// although the gateway also made bills all the time.
func TestCrashLosesNoCount(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, acknowledged := t.TempDir(), map[string]int64{}
	for life := range int64(4) {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for n := 0; ; n++ {
			line, err := lines.ReadString('\n')
			if errors.Is(err, io.EOF) {
				break
			}
			user := strings.TrimSpace(line)
			if err != nil || !strings.HasPrefix(user, "user-") {
				cmd.Process.Kill()
				t.Fatalf("the child wrote %q, error %v", line, err)
			}
			acknowledged[user]++
			switch n {
			case 0:
				if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) {
					t.Errorf("Open while another process has the file: %v, want %v", err, ErrInUse)
				}
			case 200 + int(life)*7:
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait() // "signal: killed"

		s, p := open(t, dir, Options{BillingHours: 48}), plan(quota.MaxAmount)
		billed, err := scanOpenBills(s)
		if err != nil {
			t.Fatal(err)
		}
		for i := range childUsers {
			user := fmt.Sprint("user-", i)
			snap, err := s.Read(ctx, user, p.OnlyChoice())
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
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
