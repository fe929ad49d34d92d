package notify

import "time"

// maxDelay bounds the time between two tries to deliver an event.
const maxDelay = 15 * time.Minute

// delayAfter returns how long an account waits after so many failures in a row: 1 to 5 s after the first, and
// twice as long after each of the others. chance is 0 to below 1, so that gateways and accounts do not keep step. If the
// number of failures is not known, 0, it is about the age of the event.
func delayAfter(failures int, age time.Duration, chance float64) time.Duration {
	delay := time.Second + time.Duration(chance*float64(4*time.Second))
	if failures == 0 {
		delay = max(delay, time.Duration((0.75+chance/2)*float64(age)))
	}
	for ; failures > 1 && delay < maxDelay; failures-- {
		delay *= 2
	}
	return min(delay, maxDelay-time.Duration(chance*float64(maxDelay/5)))
}

// maxCounted bounds the accounts whose failures are counted.
const maxCounted = 4096

// failureCounts counts the failures in a row of accounts.
type failureCounts map[string]int

// add counts a failure, and returns the number; 0: too many accounts are counted already.
func (f failureCounts) add(account string) int {
	if f[account] == 0 && len(f) >= maxCounted {
		return 0
	}
	f[account]++
	return f[account]
}
