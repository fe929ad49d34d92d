package guard

import (
	"context"
	"errors"
	"testing"

	"metergate/quota"
)

var errDown = errors.New("down")

func TestBreakerOpensAfterFailuresInARow(t *testing.T) {
	var b breaker
	for range failuresToOpen - 1 {
		if b.recordFailure("u", errDown) {
			t.Fatal("it opens too early")
		}
	}
	b.recordSuccess()
	for range failuresToOpen - 1 {
		if b.recordFailure("u", errDown) {
			t.Fatal("it opens although a call has succeeded in between")
		}
	}
	if !b.recordFailure("v", errDown) || !errors.Is(b.openError(), errDown) {
		t.Errorf("after %d failures in a row, openError is %v", failuresToOpen, b.openError())
	}
	if b.recordFailure("w", errDown) {
		t.Error("it opens a second time")
	}
	if got := b.probeUser(); got != "w" {
		t.Errorf("the probe is for %q, want the user whose call failed last", got)
	}
}

func TestOnlyProbeClosesBreaker(t *testing.T) {
	var b breaker
	call, err := b.beginCall(context.Background())
	if err != nil || call.Err() != nil {
		t.Fatalf("a closed breaker: error %v, context %v", err, call.Err())
	}
	for range failuresToOpen {
		b.recordFailure("u", errDown)
	}
	if !errors.Is(call.Err(), errBreakerOpened) {
		t.Errorf("a call under way ends with %v, want %v", call.Err(), errBreakerOpened)
	}
	if _, err := b.beginCall(context.Background()); !errors.Is(err, errDown) {
		t.Errorf("a new call begins with error %v, want %v", err, errDown)
	}
	b.recordSuccess()
	if b.openError() == nil {
		t.Error("a call that was under way has closed it")
	}
	still := errors.New("still down")
	b.recordProbe(still)
	if !errors.Is(b.openError(), still) {
		t.Errorf("after a failed probe, openError is %v, want %v", b.openError(), still)
	}
	b.recordProbe(nil)
	if _, err := b.beginCall(context.Background()); err != nil {
		t.Errorf("after a successful probe a call begins with error %v", err)
	}
}

func TestBreakerCountsBrokenConnectionOnce(t *testing.T) {
	var b breaker
	for range 2 * failuresToOpen {
		broken := &quota.BrokenConnectionError{Err: errDown}
		b.recordFailure("u", broken)
		if b.recordFailure("u", broken); b.openError() != nil {
			break
		}
	}
	if b.failures != failuresToOpen {
		t.Errorf("it opened after %d broken connections, want %d", b.failures, failuresToOpen)
	}
}
