package billing

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

// lago takes batches of events, see https://getlago.com/docs/api-reference/events/batch. It takes a batch as
// a whole or not at all, and says of each event what is wrong with it.
type lago struct{}

func (lago) properties() properties {
	return properties{name: "lago", defaultURL: "https://api.getlago.com", path: "/api/v1/events/batch", needsToken: true, most: 100, rate: 50}
}

func (lago) prepare(e *event) {
	if e.code == "" {
		e.code = e.bill.Endpoint
	}
}

type lagoEvent struct {
	TransactionID          string     `json:"transaction_id"`
	ExternalSubscriptionID string     `json:"external_subscription_id"`
	Code                   string     `json:"code"`
	Timestamp              int64      `json:"timestamp"` // the same each time: Lago with ClickHouse compares it as well
	Properties             eventUsage `json:"properties"`
}

func (lago) show(e event) any {
	return lagoEvent{e.id, e.customer, e.code, e.bill.Hour.Unix(), usageOf(e.bill)}
}

func (l lago) request(ctx context.Context, url string, events []event) (*http.Request, error) {
	batch := make([]any, len(events))
	for i, e := range events {
		batch[i] = l.show(e)
	}
	return postJSON(ctx, url, "application/json", map[string]any{"events": batch})
}

// judge reads which events of a batch are wrong: {"error_details": {"0": {"transaction_id":
// ["value_already_exist"]}}}. What is not of this form is left to the status.
func (lago) judge(status int, body []byte, n int) *verdict {
	var answer struct {
		Details map[string]json.RawMessage `json:"error_details"`
	}
	if status != http.StatusUnprocessableEntity || json.Unmarshal(body, &answer) != nil || len(answer.Details) == 0 {
		return nil
	}
	v := &verdict{kind: sorted, refused: map[int]string{}}
	for key, detail := range answer.Details {
		i, err := strconv.Atoi(key)
		if err != nil || i < 0 || i >= n {
			return nil
		}
		var fields map[string][]string
		if json.Unmarshal(detail, &fields) == nil && len(fields) == 1 && slices.Contains(fields["transaction_id"], "value_already_exist") {
			v.duplicates = append(v.duplicates, i)
		} else {
			v.refused[i] = "422 " + excerpt(detail)
		}
	}
	return v
}
