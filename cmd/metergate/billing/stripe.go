package billing

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// stripe takes meter events one by one, see https://docs.stripe.com/api/billing/meter-event/create. It
// recognises an identifier for 24 hours at least. There is no Idempotency-Key: with that, Stripe would
// repeat a 500 for a day.
type stripe struct{ units bool }

func (stripe) properties() properties {
	return properties{name: "stripe", defaultURL: "https://api.stripe.com", path: "/v1/billing/meter_events", needsToken: true, most: 1, rate: 100}
}

func (s stripe) prepare(e *event) {
	if e.code == "" {
		e.code = e.bill.Endpoint
	}
	e.silent = e.silent || s.value(*e) == 0
}

func (s stripe) value(e event) int64 {
	if s.units {
		return e.bill.Units
	}
	return e.bill.Requests
}

func (s stripe) show(e event) any {
	return map[string]any{
		"event_name": e.code, "identifier": e.id, "timestamp": e.bill.Hour.Unix(),
		"payload": map[string]string{"stripe_customer_id": e.customer, "value": strconv.FormatInt(s.value(e), 10)},
	}
}

func (s stripe) request(ctx context.Context, to string, events []event) (*http.Request, error) {
	e := events[0]
	form := url.Values{
		"event_name": {e.code}, "identifier": {e.id}, "timestamp": {strconv.FormatInt(e.bill.Hour.Unix(), 10)},
		"payload[stripe_customer_id]": {e.customer}, "payload[value]": {strconv.FormatInt(s.value(e), 10)},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req, err
}

// judge knows an event that was there already by Stripe's words, as it has no code for it: 400 "An event
// already exists with identifier ...".
func (stripe) judge(status int, body []byte, _ int) *verdict {
	var answer struct {
		Error struct{ Code, Message string }
	}
	json.Unmarshal(body, &answer) // without an error in it, the status decides
	switch said := answer.Error; {
	case status == http.StatusBadRequest && strings.Contains(said.Message, "already exists with identifier"), said.Code == "duplicate_meter_event":
		return &verdict{kind: duplicate}
	case status == http.StatusConflict: // another request about the same customer is under way
		return &verdict{kind: again}
	case status == http.StatusNotFound && said.Code == "resource_missing": // a customer, not the address
		return &verdict{kind: rejected}
	}
	return nil
}
