package billing

import (
	"context"
	"net/http"
	"time"
)

// defaultType is the type of all events, unless the user names others.
const defaultType = "metergate.usage"

// A cloudEvent is an event in the JSON format of CloudEvents 1.0, section 3. The SDK for Go would build
// the same eight members from ten modules.
type cloudEvent struct {
	SpecVersion     string     `json:"specversion"`
	ID              string     `json:"id"`
	Source          string     `json:"source"`
	Type            string     `json:"type"`
	Subject         string     `json:"subject"`
	Time            time.Time  `json:"time"`
	DataContentType string     `json:"datacontenttype"`
	Data            eventUsage `json:"data"`
}

// eventUsage is what was used, for receivers that take any JSON.
type eventUsage struct {
	User     string `json:"user"`
	Org      string `json:"org,omitempty"`
	Endpoint string `json:"endpoint"`
	Requests int64  `json:"requests"`
	Units    int64  `json:"units"`
	Revision int64  `json:"revision"`
}

func usageOf(b Bill) eventUsage {
	return eventUsage{b.User, b.Org, b.Endpoint, b.Requests, b.Units, b.Revision}
}

// cloudEvents is any service that takes batches of CloudEvents.
type cloudEvents struct{ source string }

func (cloudEvents) properties() properties {
	return properties{name: "cloudevents", most: 100, rate: 50}
}

func (cloudEvents) prepare(e *event) {
	if e.code == "" {
		e.code = defaultType
	}
}

func (c cloudEvents) show(e event) any {
	return cloudEvent{
		SpecVersion: "1.0", ID: e.id, Source: c.source, Type: e.code, Subject: e.customer, Time: e.bill.Hour.UTC(),
		DataContentType: "application/json", Data: usageOf(e.bill),
	}
}

// request makes a batch as section 4 of the JSON format says.
func (c cloudEvents) request(ctx context.Context, url string, events []event) (*http.Request, error) {
	batch := make([]any, len(events))
	for i, e := range events {
		batch[i] = c.show(e)
	}
	return postJSON(ctx, url, "application/cloudevents-batch+json", batch)
}

func (cloudEvents) judge(int, []byte, int) *verdict { return nil }

// openMeter takes CloudEvents, see https://openmeter.io/docs/metering/events/overview. It knows an event by
// id and source, and answers 204 also for one that it has already.
type openMeter struct{ cloudEvents }

func (openMeter) properties() properties {
	p := cloudEvents{}.properties()
	p.name, p.path = "openmeter", "/api/v1/events"
	return p
}
