package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/counterfile"
	"metergate/quota"
)

// sendTo sends the count of one user to a gateway that answers with handler.
func sendTo(t *testing.T, patience time.Duration, handler http.HandlerFunc) error {
	t.Helper()
	gateway := httptest.NewServer(handler)
	defer gateway.Close()
	t.Setenv(tokenVariable, "token")
	client, err := newAdminClient(gateway.URL)
	if err != nil {
		t.Fatal(err)
	}
	client.patience = patience
	users := []*counterfile.UserCounts{{Account: counterfile.Account{User: "u"}, Counts: []counterfile.Count{{Endpoint: "analyze", Used: 3, Units: -1}}}}
	return client.sendCounts(users, quota.Month, io.Discard)
}

func refuseCounts(w http.ResponseWriter, status int) {
	w.WriteHeader(status)
	io.WriteString(w, `{"detail":"The store does not answer. The counts of 3 of 1000 users are set. Send all of them again: counts are set, not added."}`)
}

// An import goes on when the gateway or its store answers again.
func TestImportRepeatsWhatWasNotAnswered(t *testing.T) {
	var requests atomic.Int32
	err := sendTo(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		switch requests.Add(1) {
		case 1:
			refuseCounts(w, http.StatusServiceUnavailable)
		case 2:
			panic(http.ErrAbortHandler) // the connection breaks
		default:
			io.WriteString(w, `{"users":1,"counts":1}`)
		}
	})
	if err != nil || requests.Load() < 3 {
		t.Errorf("%d requests, error %v", requests.Load(), err)
	}
}

// An import gives up in the end, and at once where repeating does not help.
func TestImportGivesUp(t *testing.T) {
	err := sendTo(t, 0, func(w http.ResponseWriter, r *http.Request) { refuseCounts(w, http.StatusServiceUnavailable) })
	if err == nil || err.Error() != "stopped after 0 of 1 users: gave up after 0s: The store does not answer." {
		t.Errorf("error %v", err)
	}
	var requests atomic.Int32
	err = sendTo(t, time.Hour, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		refuseCounts(w, http.StatusUnprocessableEntity)
	})
	if err == nil || !strings.HasPrefix(err.Error(), "stopped after 0 of 1 users: The store") || requests.Load() != 1 {
		t.Errorf("%d requests, error %v", requests.Load(), err)
	}
}
