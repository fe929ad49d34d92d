package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"metergate/quota"
)

const (
	// billsTimeout bounds the time in which a client takes no bills. Whoever sends them on may have to
	// wait for the receiver.
	billsTimeout = 15 * time.Minute
	// billsFlushEvery is the time after which a client has at least what was written.
	billsFlushEvery = time.Second
	// maxBillsPerRequest bounds the bills in one request, so that it ends within writeTimeout.
	maxBillsPerRequest = 1000
)

// A billLine is one bill of a list.
type billLine struct {
	User     string    `json:"user"`
	Org      string    `json:"org,omitempty"`
	Endpoint string    `json:"endpoint"`
	Hour     time.Time `json:"hour"` // its start
	Revision int64     `json:"revision"`
	Requests int64     `json:"requests"`
	Units    int64     `json:"units"`
}

// getBills serves GET /admin/bills: the bills that there are, and those that would be made.
func (h *handler) getBills(w http.ResponseWriter, r *http.Request) { h.listBills(w, r, true) }

// postBills serves POST /admin/bills: it makes bills of what was counted, and lists all.
func (h *handler) postBills(w http.ResponseWriter, r *http.Request) { h.listBills(w, r, false) }

func (h *handler) listBills(w http.ResponseWriter, r *http.Request, dryRun bool) {
	c := &userRequest{Options: h.Options, w: w, r: r}
	query, err := c.billQuery()
	if err == nil {
		query.DryRun = dryRun
		err = c.writeBills(query)
	}
	if err != nil {
		writeError(w, r, withoutBilling(err))
	}
}

// billQuery reads the parameters. Hours that are not over have no bills: they would be many.
func (c *userRequest) billQuery() (q quota.BillQuery, err error) {
	params, err := c.queryParams("since", "before")
	if err != nil {
		return q, err
	}
	now := quota.BillHourAt(c.Clock.Now())
	q.Before = now
	for name, hour := range map[string]*quota.BillHour{"since": &q.Since, "before": &q.Before} {
		text, given := params[name]
		if !given {
			continue
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil || t.Unix() < 0 {
			return q, badRequest("%s: must be a time like 2026-11-29T14:00:00Z, got %.80q", name, text)
		}
		if *hour = quota.BillHourAt(t); *hour > now {
			return q, badRequest("%s: must not be in the future, got %s", name, text)
		}
	}
	return q, nil
}

// withoutBilling explains that nothing is kept for billing. It returns other errors as they are.
func withoutBilling(err error) error {
	if !errors.Is(err, quota.ErrNotKept) {
		return err
	}
	return requestError{status: http.StatusNotFound, reason: "no_billing",
		detail: "Nothing is kept for billing. Set billing.keep in the configuration, and restart the gateway."}
}

// writeBills writes the list while the store finds the bills. Its last line says that it is complete.
func (c *userRequest) writeBills(q quota.BillQuery) error {
	list := &billList{w: c.w, enc: json.NewEncoder(c.w)}
	list.enc.SetEscapeHTML(false)
	if c.r.Method == http.MethodHead {
		list.start()
		return nil
	}
	q.Progress = list.progress
	err := c.Store.ScanBills(c.r.Context(), q, list.add)
	if err == nil {
		err = list.end()
	}
	if list.started {
		noteDetail(c.w, "%d bills listed", list.bills)
	}
	if err != nil && list.started {
		panic(http.ErrAbortHandler) // the client must not mistake half a list for the whole
	}
	return err
}

// A billList writes bills in JSON Lines. Its methods may be called concurrently.
type billList struct {
	w   http.ResponseWriter
	enc *json.Encoder

	mu      sync.Mutex
	started bool
	flushed time.Time
	bills   int
}

func (l *billList) start() {
	l.started = true
	l.w.Header().Set("Content-Type", "application/jsonl")
	l.w.WriteHeader(http.StatusOK)
}

// writeLine writes a line. An error before the first line still gets its own status.
func (l *billList) writeLine(line any) error {
	if !l.started {
		l.start()
	}
	http.NewResponseController(l.w).SetWriteDeadline(time.Now().Add(billsTimeout))
	return l.enc.Encode(line)
}

func (l *billList) add(of quota.AccountBills) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	org, user := quota.SplitAccount(of.Account)
	for _, b := range of.Bills {
		if err := l.writeLine(billLine{user, org, b.Endpoint, b.Hour.Start(), b.Revision, b.Used.Requests, b.Used.Units}); err != nil {
			return err
		}
		l.bills++
	}
	return l.flush()
}

// progress tells the client how far the scan is, now and then.
func (l *billList) progress(done, total int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.flushed) < billsFlushEvery {
		return
	}
	type progress struct {
		Done  int64 `json:"done"`
		Total int64 `json:"total"` // roughly
	}
	if l.writeLine(map[string]progress{"progress": {done, total}}) == nil { // else the next bill has the error
		l.flush()
	}
}

// flush sends what was written, if that was not done for a while.
func (l *billList) flush() error {
	if time.Since(l.flushed) < billsFlushEvery {
		return nil
	}
	err := http.NewResponseController(l.w).Flush()
	l.flushed = time.Now()
	return err
}

func (l *billList) end() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writeLine(map[string]bool{"end": true})
}

// accountBills are the bills of an account in a request.
type accountBills struct {
	account string
	bills   []quota.Bill
}

// postBillsSent serves POST /admin/bills/sent: bills, in JSON Lines as they were listed, that were
// delivered. They are dropped. Sending them again changes nothing.
func (h *handler) postBillsSent(w http.ResponseWriter, r *http.Request) {
	c := &userRequest{Options: h.Options, w: w, r: r}
	bills, err := c.endBills()
	if err != nil {
		writeError(w, r, withoutBilling(err))
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Bills int `json:"bills"`
	}{bills})
}

func (c *userRequest) endBills() (bills int, err error) {
	if _, err := c.queryParams(); err != nil {
		return 0, err
	}
	accounts, bills, err := c.readBills()
	if err != nil {
		return 0, err
	}
	noteDetail(c.w, "%d bills of %d users", bills, len(accounts))
	done, err := eachLine(accounts, func(of accountBills) error { return c.Store.EndBills(c.r.Context(), of.account, of.bills) })
	if err != nil && !errors.Is(err, quota.ErrNotKept) {
		return 0, requestError{status: http.StatusServiceUnavailable, detail: fmt.Sprintf("The store does not answer. The bills of %d of %d users are noted as sent. Send all of them again.", done, len(accounts))}
	}
	return bills, err
}

// readBills reads the lines of the body, and checks each.
func (c *userRequest) readBills() (accounts []accountBills, bills int, err error) {
	if err := checkContentType(c.r.Header.Get("Content-Type"), "application/jsonl"); err != nil {
		return nil, 0, err
	}
	text, err := io.ReadAll(c.r.Body) // which has a bound
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, 0, requestError{status: http.StatusRequestEntityTooLarge, detail: fmt.Sprintf("The body may have at most %d bytes and %d bills. Send more requests.", maxBodyBytes, maxBillsPerRequest)}
	case err != nil:
		return nil, 0, badRequest("body: ended early")
	}
	index, number := map[string]int{}, 0
	for text := range bytes.Lines(text) {
		number++
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		account, bill, err := readBill(text)
		if err != nil {
			return nil, 0, badRequest("line %d: %v", number, err)
		}
		i, seen := index[account]
		if !seen {
			i, index[account] = len(accounts), len(accounts)
			accounts = append(accounts, accountBills{account: account})
		}
		accounts[i].bills = append(accounts[i].bills, bill)
		bills++
	}
	if bills == 0 || bills > maxBillsPerRequest {
		return nil, 0, badRequest(`body: must have 1 to %d lines like {"user": "u-17", "endpoint": "analyze", "hour": "2026-11-29T14:00:00Z", "revision": 1}, got %d`, maxBillsPerRequest, bills)
	}
	return accounts, bills, nil
}

func readBill(text []byte) (account string, bill quota.Bill, err error) {
	var org, user string
	var hour time.Time
	err = members{"org": &org, "user": &user, "endpoint": &bill.Endpoint, "hour": &hour, "revision": &bill.Revision,
		"requests": &bill.Used.Requests, "units": &bill.Used.Units}.decode(text)
	bill.Hour = quota.BillHourAt(hour)
	switch {
	case err != nil:
	case user == "":
		err = errors.New("user: is missing")
	case bill.Endpoint == "":
		err = errors.New("endpoint: is missing")
	case bill.Hour <= 0 || !bill.Hour.Start().Equal(hour):
		err = fmt.Errorf("hour: must be the start of an hour, such as \"2026-11-29T14:00:00Z\", got %q", hour.Format(time.RFC3339))
	case bill.Revision < 1:
		err = errors.New("revision: must be 1 or more, got " + strconv.FormatInt(bill.Revision, 10))
	default:
		account, err = quota.CheckedAccount(org, user)
		if errors.Is(err, quota.ErrInvalidChange) {
			err = errors.New(invalidChangeText(err))
		}
	}
	return account, bill, err
}
