package recent

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// An Hour has the sums of an hour. Quantiles are null if there was no request.
type Hour struct {
	Requests int64 `json:"requests"` // answered, of any route
	Class2xx int64 `json:"2xx"`
	Class3xx int64 `json:"3xx"`
	Class4xx int64 `json:"4xx"`
	Class5xx int64 `json:"5xx"`
	Aborted  int64 `json:"aborted"` // connections that the gateway cut because a request failed midway
	Admitted int64 `json:"admitted"`
	// Refused is by reason: quota-exceeded (a limit is reached, or the plan has no such requests), attempts,
	// concurrency, store (it did not answer), overload (too many requests were running).
	Refused      map[string]int64 `json:"refused"`
	Unauthorized int64            `json:"unauthorized"` // requests without a token, or with one that is not accepted
	P50          Value            `json:"p50_ms"`
	P95          Value            `json:"p95_ms"`
	P99          Value            `json:"p99_ms"`
}

// A Series has the points of an hour, the oldest first; the last one ended at To. What is unknown is null.
type Series struct {
	StepSeconds int       `json:"step_s"`
	To          time.Time `json:"to"`
	Requests    Values    `json:"requests"` // in the step, not a second
	Errors      Values    `json:"errors"`   // 5xx and aborted
	Refused     Values    `json:"refused"`
	P50         Values    `json:"p50_ms"`
	P95         Values    `json:"p95_ms"`
	P99         Values    `json:"p99_ms"`
}

// PointValues are those of one point, as in a Series.
type PointValues struct {
	At       time.Time `json:"at"` // its end
	Requests Value     `json:"requests"`
	Errors   Value     `json:"errors"`
	Refused  Value     `json:"refused"`
	P50      Value     `json:"p50_ms"`
	P95      Value     `json:"p95_ms"`
	P99      Value     `json:"p99_ms"`
}

// A Value is a number; NaN is unknown, and null in JSON.
type Value float64

// MarshalJSON writes null for what is unknown.
func (v Value) MarshalJSON() ([]byte, error) { return v.append(nil), nil }

func (v Value) append(to []byte) []byte {
	if math.IsNaN(float64(v)) {
		return append(to, "null"...)
	}
	return strconv.AppendFloat(to, float64(v), 'f', -1, 64)
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (v *Value) UnmarshalJSON(text []byte) error {
	if bytes.Equal(text, []byte("null")) {
		*v = unknown
		return nil
	}
	return json.Unmarshal(text, (*float64)(v))
}

// Values is a list of numbers.
type Values []Value

// MarshalJSON writes them all at once.
func (vs Values) MarshalJSON() ([]byte, error) {
	text := append(make([]byte, 0, 8*len(vs)+2), '[')
	for i, v := range vs {
		if i > 0 {
			text = append(text, ',')
		}
		text = v.append(text)
	}
	return append(text, ']'), nil
}
