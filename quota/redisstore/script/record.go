package script

import (
	"cmp"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/record"
)

//go:embed put.lua
var putLua string

// Put is put.lua, which replaces a hash. FormatAccount returns its arguments.
var Put = redis.NewScript(putLua)

// IsAccountKey reports whether a key of KeyPattern is that of a user, a member or a pool.
func IsAccountKey(key string) bool {
	if _, ok := UserDigest(key); ok {
		return true
	}
	tag, isPool := strings.CutSuffix(key, "}"+poolSuffix)
	var id [16]byte
	return isPool && decodeDigest(tag[strings.LastIndexByte(tag, '{')+1:], &id)
}

// grace is GRACE of common.lua.
const grace = 10 * time.Minute

// ParseAccount returns what the fields of a hash, as common.lua describes them, have of an account. It leaves out what
// ends with the requests: leases, rests, places and attempts. isHeld: a lease, a rest or a place has not ended at a time. ok is false
// if there is nothing but these.
func ParseAccount(fields map[string]string, at time.Time) (a record.Account, isHeld, ok bool, err error) {
	if err := CheckFormat(fields[FieldFormat]); err != nil {
		return a, false, false, fmt.Errorf("%w: %w", quota.ErrUserData, err)
	}
	p := recordParser{account: &a, fields: fields, windows: map[string]*record.Window{}, at: at}
	a.Name, a.ClaimedPlan, a.Terms = fields[FieldUser], fields[FieldClaimed], fields[FieldTerms]
	for field, value := range fields {
		if err := p.parse(field, value); err != nil {
			return a, false, false, fmt.Errorf("%w: %q: the field %.100q: %w", quota.ErrUserData, a.Name, field, err)
		}
	}
	for _, parse := range []func() error{p.parseDays, p.parseBills, p.parseEvents} {
		if err := parse(); err != nil {
			return a, false, false, fmt.Errorf("%w: %q: %w", quota.ErrUserData, a.Name, err)
		}
	}
	for _, w := range p.windows {
		a.Windows = append(a.Windows, *w)
	}
	slices.SortFunc(a.Windows, func(x, y record.Window) int { return cmp.Compare(x.ID, y.ID) })
	some := len(a.Windows) + len(a.History) + len(a.Bills) + len(a.Audit) + len(a.Changes) + len(a.Crossings) + len(a.Settled)
	ok = some > 0 || a.Override.Plan != "" || a.ClaimedPlan != "" || a.Terms != "" || a.Revision != 0
	if ok && a.Name == "" {
		return a, p.held, ok, fmt.Errorf("%w: it has data of an account, and no name", quota.ErrUserData)
	}
	return a, p.held, ok, nil
}

// A recordParser makes the record of a hash.
type recordParser struct {
	account *record.Account
	fields  map[string]string
	windows map[string]*record.Window
	at      time.Time
	held    bool
}

// parse reads a field that says something by itself.
func (p *recordParser) parse(field, value string) (err error) {
	kind, name, _ := strings.Cut(field, "/")
	a := p.account
	switch kind {
	case "used", "extra", "grant", "unitgrant":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return err
		}
		c := p.counter(name)
		switch kind {
		case "used":
			c.Requests = n
		case "extra":
			c.Extra = n
		case "grant":
			c.GrantedRequests = n
		default:
			c.GrantedUnits = n
		}
	case "rearmed":
		p.window(name).Rearmed, err = strconv.ParseInt(value, 10, 64)
	case "retain":
		p.window(name)
	case "lease", "rest", "place":
		until, _, err := parseTime(value)
		p.held = p.held || err == nil && p.at.Before(until)
	case "done", "paid":
		var until time.Time
		until, _, err = parseTime(value)
		a.Settled = append(a.Settled, record.Settled{ID: name, Rest: kind == "paid", Until: until})
	case "once":
		c := record.ChangeID{ID: name}
		c.Until, c.Fingerprint, err = parseTime(value)
		a.Changes = append(a.Changes, c)
	case "plan":
		a.Override.Until, a.Override.Plan, err = parseTime(value)
	case "audit":
		_, lines, _ := strings.Cut(value, "\n")
		for line := range strings.SplitSeq(lines, "\n") {
			if line == "" {
				continue
			}
			at, text, err := parseTime(line)
			if err != nil {
				return err
			}
			a.Audit = append(a.Audit, record.Entry{At: at, JSON: text})
		}
		slices.Reverse(a.Audit)
	case "sweep":
		if _, err := strconv.ParseFloat(value, 64); err != nil {
			return fmt.Errorf("%s that a later version has written", UnknownFormat)
		}
	}
	return err
}

// parseTime reads "TIME REST", in ms; 0 is the zero time.
func parseTime(value string) (t time.Time, rest string, err error) {
	digits := strings.TrimLeft(value, "0123456789")
	ms, err := strconv.ParseInt(value[:len(value)-len(digits)], 10, 64)
	if ms != 0 {
		t = time.UnixMilli(ms).UTC()
	}
	return t, strings.TrimPrefix(digits, " "), err
}

func (p *recordParser) window(id string) *record.Window {
	if p.windows[id] == nil {
		p.windows[id] = &record.Window{ID: id}
	}
	return p.windows[id]
}

// counter returns the one that the scripts name so, see CounterName.
func (p *recordParser) counter(name string) *record.Counter {
	id, endpoint, _ := strings.Cut(name, "/")
	w := p.window(id)
	for i := range w.Counters {
		if w.Counters[i].Endpoint == endpoint {
			return &w.Counters[i]
		}
	}
	w.Counters = append(w.Counters, record.Counter{Endpoint: endpoint})
	return &w.Counters[len(w.Counters)-1]
}

// parseDays reads the history: what history.lua does, and what ParseHistory does with its text.
func (p *recordParser) parseDays() error {
	days := strings.TrimRight(p.fields["days"], " ")
	if days == "" {
		return nil
	}
	head, lines, _ := strings.Cut(days, "\n")
	words := strings.Fields(head)
	if len(words) < 2 {
		return fmt.Errorf("the field days begins with %.100q", head)
	}
	newest, err := parseDate(words[1])
	if err != nil {
		return err
	}
	text := "\n" + head
	if lines != "" {
		text += "\n" + lines
	}
	for _, endpoint := range words[2:] {
		field := dayField(newest, endpoint)
		if used := p.fieldsUsed(field, "dayextra"+strings.TrimPrefix(field, "day")); used != "" {
			text += fmt.Sprintf("\n%s %d %s", endpoint, newest, used)
		}
	}
	used, err := ParseHistory(text)
	if err != nil {
		return fmt.Errorf("the history cannot be read: %w", err)
	}
	for date, endpoints := range used {
		for endpoint, u := range endpoints {
			p.account.History = append(p.account.History, record.Day{Date: date, Endpoint: endpoint, Used: u})
		}
	}
	return nil
}

// fieldsUsed returns what two fields have counted, as the lines of days and bills write it: "R+X"; empty: nothing.
func (p *recordParser) fieldsUsed(requests, extra string) string {
	if p.fields[requests] == "" && p.fields[extra] == "" {
		return ""
	}
	r, _ := strconv.ParseInt(p.fields[requests], 10, 64)
	x, _ := strconv.ParseInt(p.fields[extra], 10, 64)
	return formatUsed(quota.Used{Requests: max(0, r), Units: max(0, r) + x})
}

// formatUsed writes what parseUsed reads.
func formatUsed(u quota.Used) string {
	if u.Units == u.Requests {
		return strconv.FormatInt(u.Requests, 10)
	}
	return fmt.Sprintf("%d%+d", u.Requests, u.Units-u.Requests)
}

// parseBills reads what is kept for bills.
func (p *recordParser) parseBills() error {
	text := strings.TrimRight(p.fields["bills"], " ")
	if text == "" {
		return nil
	}
	head, lines, _ := strings.Cut(text, "\n")
	words := strings.Fields(head)
	if len(words) < 3 {
		return fmt.Errorf("the field bills begins with %.100q", head)
	}
	until, _, err := parseTime(words[0])
	if err != nil {
		return err
	}
	a := p.account
	if a.Revision, err = strconv.ParseInt(words[1], 10, 64); err != nil {
		return err
	}
	if a.Revision != 0 {
		a.RevisionUntil = until
	}
	hour, err := strconv.ParseInt(words[2], 10, 64)
	if err != nil {
		return err
	}
	open := map[quota.Bill]quota.Used{} // what is in no bill yet: of late counts an hour has a line and fields
	for _, endpoint := range words[3:] {
		field := hourField(quota.BillHour(hour), endpoint)
		u, err := parseUsed(p.fieldsUsed(field, "billextra"+strings.TrimPrefix(field, "bill")))
		if err != nil {
			return err
		}
		open[quota.Bill{Endpoint: endpoint, Hour: quota.BillHour(hour)}] = u
	}
	for line := range strings.SplitSeq(lines, "\n") {
		if line == "" {
			continue
		}
		if billed, ok := strings.CutPrefix(line, "#"); ok {
			b, ok := parseBill(strings.Fields(billed))
			if !ok {
				return fmt.Errorf("the field bills has the line %.100q", line)
			}
			a.Bills = append(a.Bills, b)
			continue
		}
		b, ok := parseBill(append(strings.Fields(line), "1"))
		if !ok {
			return fmt.Errorf("the field bills has the line %.100q", line)
		}
		key := quota.Bill{Endpoint: b.Endpoint, Hour: b.Hour}
		open[key] = open[key].Add(b.Used)
	}
	for b, used := range open {
		b.Used = used
		a.Bills = append(a.Bills, b)
	}
	return nil
}

func (p *recordParser) parseEvents() (err error) {
	p.account.Crossings, err = ParseEvents(p.account.Name, p.fields[FieldEvents])
	return err
}
