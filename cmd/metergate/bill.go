package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"metergate/cmd/metergate/billing"
)

// billTokenVariable holds the receiver's token, see tokenVariable.
const billTokenVariable = "METERGATE_BILL_TOKEN"

func bill(c *console) error {
	f := c.flags()
	admin := adminFlag(f)
	o := billing.Options{Codes: map[string]string{}}
	f.StringVar(&o.To, "to", "", "the `RECEIVER`: "+billing.ReceiverNames+" (needed)")
	f.StringVar(&o.URL, "url", "", "the receiver's `URL`; one without a path gets the receiver's usual path")
	tokenFile := f.String("token-file", "", "a `FILE` with the receiver's token (default: the variable "+billTokenVariable+")")
	since := f.String("since", "", "the first `HOUR`, such as 2026-11-01 or 2026-11-01T14:00:00Z (default: all that is kept)")
	dryRun := f.Bool("dry-run", false, "print the events, one a line, and send nothing")
	subject := f.String("subject", "user", "`WHO` is billed: user, or org for the user's organisation if there is one")
	customers := f.String("customers", "", "a CSV `FILE` of id and customer: the receiver's ids of users or organisations")
	f.Func("map", "the receiver's `NAMES` of endpoints, such as analyze=api_calls,report=; * is for all others, and an empty name means: not billed", parseCodes(o.Codes))
	value := f.String("value", "requests", "the `AMOUNT` for a receiver that takes one, which is stripe: requests or units")
	f.StringVar(&o.Source, "source", "metergate", "the `NAME` of this installation, if several send to one receiver; the ids of events depend on it")
	f.Float64Var(&o.Rate, "rate", 0, "the most HTTP requests a second to the receiver, `N` (default: 100 for stripe, 50 for others)")
	f.DurationVar(&o.Retry, "retry", 5*time.Minute, "how long to retry when the receiver does not take events, a `TIME` of up to 10m")
	if _, err := c.parse(f); err != nil {
		return err
	}
	o.ByOrg, o.Units = *subject == "org", *value == "units"
	sender, from, err := c.checkBill(f, &o, *subject, *value, *since, *customers, *tokenFile, *dryRun)
	if err != nil {
		return err
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := billing.NewProgress(c.stderr)
	defer p.Clear()
	if *dryRun {
		return c.showBills(sender, client.bills(ctx, http.MethodGet, from, p), p)
	}
	report := sender.Send(ctx, client.bills(ctx, http.MethodPost, from, p), billNotes{client}, p.Sent)
	p.Clear()
	if ctx.Err() != nil {
		report.Stopped = errors.New("a signal ended the run")
	}
	return c.reportBills(o.To, report)
}

// checkBill checks the flags, and completes the options.
func (c *console) checkBill(f *flag.FlagSet, o *billing.Options, subject, value, since, customers, tokenFile string, dryRun bool) (s *billing.Sender, from time.Time, err error) {
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case o.To == "":
		return nil, from, c.usageError("-to is needed: %s", billing.ReceiverNames)
	case subject != "user" && subject != "org":
		return nil, from, c.usageError("-subject must be user or org, got %q", subject)
	case value != "requests" && value != "units":
		return nil, from, c.usageError("-value must be requests or units, got %q", value)
	case given["value"] && o.To != "stripe":
		return nil, from, c.usageError("-value is for stripe; %s gets requests and units", o.To)
	case given["rate"] && !(o.Rate > 0 && o.Rate <= 10000):
		return nil, from, c.usageError("-rate must be above 0 and at most 10000, got %v", o.Rate)
	case o.Retry < 0 || o.Retry > billing.MaxRetry:
		return nil, from, c.usageError("-retry must be 0s to 10m, got %v", o.Retry)
	case o.Source == "" || strings.ContainsFunc(o.Source, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return nil, from, c.usageError("-source must be a name without spaces, got %q", o.Source)
	}
	if from, err = parseHour(since); err != nil {
		return nil, from, c.usageError("-since %v", err)
	}
	if customers != "" {
		if o.Customers, err = readCustomers(customers); err != nil {
			return nil, from, c.usageError("%v", err)
		}
	}
	if o.Token, err = readBillToken(tokenFile); err != nil {
		return nil, from, c.usageError("%v", err)
	}
	s, err = billing.New(*o)
	if err == nil && !dryRun {
		err = s.CheckAddress()
	}
	if err != nil {
		return nil, from, c.usageError("%v", err)
	}
	return s, from, nil
}

// parseCodes adds names of endpoints, as in "analyze=api_calls,report=".
func parseCodes(codes map[string]string) func(string) error {
	return func(text string) error {
		for pair := range strings.SplitSeq(text, ",") {
			endpoint, code, ok := strings.Cut(strings.TrimSpace(pair), "=")
			if _, twice := codes[endpoint]; !ok || endpoint == "" || twice {
				return fmt.Errorf("must have ENDPOINT=NAME once for each endpoint, got %q", pair)
			}
			codes[endpoint] = code
		}
		return nil
	}
}

// parseHour reads a day or a time. The zero time stands for an empty text.
func parseHour(text string) (t time.Time, err error) {
	if text == "" {
		return t, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err = time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return t, fmt.Errorf("must be a day or a time, such as 2026-11-01 or 2026-11-01T14:00:00Z, got %q", text)
}

// readBillToken reads the receiver's token. It is empty if none was given.
func readBillToken(file string) (string, error) {
	token := os.Getenv(billTokenVariable)
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("-token-file: %w", err)
		}
		if token = strings.TrimSpace(string(text)); token == "" {
			return "", fmt.Errorf("-token-file: %s is empty", file)
		}
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		return "", errors.New("the receiver's token has characters that cannot be in a header")
	}
	return token, nil
}

// readCustomers reads a CSV of id and customer. A first line "id,customer" is a header.
func readCustomers(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("-customers: %w", err)
	}
	customers, rows := map[string]string{}, csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	rows.FieldsPerRecord = -1
	for first := true; ; first = false {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		line, _ := rows.FieldPos(0)
		if len(row) != 2 || row[0] == "" {
			return nil, fmt.Errorf("%s:%d: a line must be ID,CUSTOMER", file, line)
		}
		if first && strings.EqualFold(row[0], "id") && strings.EqualFold(row[1], "customer") {
			continue
		}
		if _, twice := customers[row[0]]; twice {
			return nil, fmt.Errorf("%s:%d: %q is there twice", file, line, row[0])
		}
		customers[row[0]] = strings.TrimSpace(row[1])
	}
	if len(customers) == 0 {
		return nil, fmt.Errorf("%s:1: there are no customers; a line is ID,CUSTOMER", file)
	}
	return customers, nil
}

// bills lists the bills that the gateway has: with POST it makes them, with GET it shows what would be
// made.
func (c *adminClient) bills(ctx context.Context, method string, since time.Time, p *billing.Progress) iter.Seq2[billing.Bill, error] {
	path := "/admin/bills"
	if !since.IsZero() {
		path += "?" + url.Values{"since": {since.Format(time.RFC3339)}}.Encode()
	}
	return func(yield func(billing.Bill, error) bool) {
		res, err := c.send(ctx, adminRequest{method: method, path: path})
		if err != nil {
			yield(billing.Bill{}, err)
			return
		}
		defer res.Body.Close()
		for lines := json.NewDecoder(bufio.NewReaderSize(res.Body, 64<<10)); ; {
			var line struct {
				billing.Bill
				Progress *struct{ Done, Total int64 }
				End      bool
			}
			if err := lines.Decode(&line); err != nil {
				yield(billing.Bill{}, fmt.Errorf("the gateway's list of bills broke off: %w", err))
				return
			}
			switch {
			case line.End:
				return
			case line.Progress != nil:
				p.Looked(line.Progress.Done, line.Progress.Total)
			case !yield(line.Bill, nil):
				return
			}
		}
	}
}

// billNotes notes deliveries in the gateway's store.
type billNotes struct{ client *adminClient }

// Sent implements billing.Notebook.
func (n billNotes) Sent(ctx context.Context, bills []billing.Bill) error {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	enc.SetEscapeHTML(false)
	for _, b := range bills {
		if err := enc.Encode(b); err != nil {
			return err
		}
	}
	res, err := n.client.send(ctx, adminRequest{method: http.MethodPost, path: "/admin/bills/sent", lines: lines.Bytes()})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close())
}

// showBills prints what would be sent.
func (c *console) showBills(s *billing.Sender, bills iter.Seq2[billing.Bill, error], p *billing.Progress) error {
	out := bufio.NewWriter(c.stdout)
	report, err := s.Show(out, bills)
	p.Clear()
	if flushed := out.Flush(); err == nil { // else it may be the same error
		err = flushed
	}
	if err != nil {
		return c.asUsage(err)
	}
	c.printFaults(report)
	fmt.Fprintf(c.stderr, "would send %s%s\n", tallyText(report), notBilledText(report))
	if report.Refused > 0 {
		return missingError("", report)
	}
	return nil
}

// reportBills prints what was sent, and returns what is missing as an error.
func (c *console) reportBills(to string, r billing.Report) error {
	c.printFaults(r)
	if r.Stopped != nil && r.Users == 0 { // nothing was begun
		return c.asUsage(r.Stopped)
	}
	fmt.Fprintf(c.stdout, "sent %s to %s%s\n", tallyText(r), to, notBilledText(r))
	if r.Complete() {
		return nil
	}
	return missingError(to, r)
}

func (c *console) printFaults(r billing.Report) {
	for _, fault := range r.Faults {
		fmt.Fprintf(c.stderr, "not billed: %s\n", fault)
	}
	if r.MoreFaults > 0 {
		fmt.Fprintf(c.stderr, "and %s more\n", plural(int(r.MoreFaults), "event"))
	}
}

func tallyText(r billing.Report) string {
	return fmt.Sprintf("%s of %s: %s, %s", plural(int(r.Events), "event"), plural(int(r.Users), "user"), plural(int(r.Requests), "request"), plural(int(r.Units), "unit"))
}

func notBilledText(r billing.Report) string {
	if r.NotBilled == 0 {
		return ""
	}
	return fmt.Sprintf("; %s with nothing to send", plural(int(r.NotBilled), "bill"))
}

// missingError says what is missing, and what to do.
func missingError(to string, r billing.Report) error {
	var parts []string
	if r.Stopped != nil {
		parts = append(parts, r.Stopped.Error())
	}
	if r.Refused > 0 {
		parts = append(parts, fmt.Sprintf("%s not billed, see above", plural(int(r.Refused), "event")))
	}
	if r.Unsent > 0 {
		parts = append(parts, fmt.Sprintf("%s not sent", plural(int(r.Unsent), "event")))
	}
	if r.Unnoted > 0 {
		parts = append(parts, fmt.Sprintf("%s sent, but not noted by the gateway", plural(int(r.Unnoted), "event")))
	}
	text := strings.Join(parts, "; ")
	if to != "" {
		text += "\nNothing is lost: what is missing stays in the store for billing.keep. Run the command again; what is sent twice counts once"
	}
	return errors.New(text)
}
