package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// A passage is a stream in pieces. The upstream sends each piece when the client has the one before.
type passage struct {
	contentType, coding string
	pieces              [][]byte
	units               int64 // that it is charged
	arrived             chan struct{}
}

func (p *passage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header()["Content-Type"] = nil
	if p.contentType != "" {
		w.Header().Set("Content-Type", p.contentType)
	}
	if p.coding != "" {
		w.Header().Set("Content-Encoding", p.coding)
	}
	w.(http.Flusher).Flush()
	for _, piece := range p.pieces {
		w.Write(piece)
		w.(http.Flusher).Flush()
		select {
		case <-p.arrived:
		case <-r.Context().Done():
			return
		}
	}
}

// cut cuts a body into pieces.
func cut(body []byte, at func(n int) int) (pieces [][]byte) {
	for len(body) > 0 {
		n := 1 + at(len(body))
		pieces, body = append(pieces, body[:n]), body[n:]
	}
	return pieces
}

// read reads the pieces, and tells the upstream of each.
func (p *passage) read(t *testing.T, body io.Reader) {
	t.Helper()
	for i, want := range p.pieces {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(body, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s %s: piece %d of %d is %q, want %q, error %v", p.contentType, p.coding, i, len(p.pieces), got, want, err)
		}
		p.arrived <- struct{}{}
	}
	if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
		t.Fatalf("%s %s: %q follows, error %v", p.contentType, p.coding, rest, err)
	}
}

// randomPassage is a stream of a random kind, cut at random places.
func randomPassage(r *rand.Rand) *passage {
	tokens := r.Int64N(30_000)
	value := fmt.Sprintf(`{"text":%q,"usage":{"total_tokens":%d}}`, strings.Repeat("日本語 \"x\" ", r.IntN(20)), tokens)
	p := &passage{arrived: make(chan struct{}), units: min(20, max(1, (tokens+999)/1000))}
	var body []byte
	switch r.IntN(6) {
	case 0:
		p.contentType, body = "application/json; charset=utf-8", []byte(value)
	case 1:
		end := []string{"\n", "\r\n", "\r"}[r.IntN(3)]
		events := strings.Repeat("event: delta\ndata: {\"usage\":null}\n\n: ping\n\n", r.IntN(5)) + "id: 7\ndata: " + strings.Replace(value, ",", ",\ndata: ", 1) + "\n\ndata: [DONE]\n\n"
		p.contentType, body = "text/event-stream", []byte(strings.ReplaceAll(events, "\n", end))
	case 2:
		p.contentType, body = "application/x-ndjson", []byte(strings.Repeat("{\"done\":false}\n", r.IntN(5))+value+"\n")
	case 3: // the upstream speaks nonsense
		p.contentType, p.units, body = []string{"application/json", "text/event-stream", "application/jsonl"}[r.IntN(3)], 20, make([]byte, r.IntN(300))
		for i := range body {
			body[i] = byte(r.Uint32())
		}
	case 4:
		p.contentType, p.units, body = []string{"", "text/html", "application/octet-stream", "application/json, text/html"}[r.IntN(4)], 20, []byte(value)
	default:
		p.contentType, p.coding, body = "application/json", "gzip", zipped(value)
	}
	most := 1 + r.IntN(200)
	p.pieces = cut(body, func(n int) int { return r.IntN(min(n, most)) })
	return p
}

// TestStreamsPassUnchanged sends 1,000 streams of all kinds, cut at random places, to clients of
// HTTP/1.1 and HTTP/2. Each piece reaches the client before the next one leaves the upstream, and
// afterwards the client is told what it was charged.
func TestStreamsPassUnchanged(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("the seed is %d", seed)
	var passages sync.Map
	g := withTokens(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		p, _ := passages.Load(r.URL.Path)
		p.(*passage).ServeHTTP(w, r)
	}})
	protocols := g.protocols()
	for worker := range 8 {
		t.Run(fmt.Sprint("worker ", worker), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, uint64(worker)))
			user, charged := fmt.Sprint("user-", worker), int64(0)
			for n := range 125 {
				p, path := randomPassage(random), fmt.Sprintf("/tokens/%d/%d", worker, n)
				passages.Store(path, p)
				p.check(t, protocols[n%2], user, path)
				charged += p.units
				if l := g.stored(user); l.Used != charged || l.Held != 0 {
					t.Fatalf("%s %s %q: used %d, held %d, want %d and 0", p.contentType, p.coding, p.pieces, l.Used, l.Held, charged)
				}
			}
		})
	}
}

func (p *passage) check(t *testing.T, via protocol, user, path string) {
	ctx, cancel := context.WithCancel(t.Context()) // the upstream must not wait for a piece that was lost
	defer cancel()
	res := via.send(ctx, t, user, http.MethodPost, path)
	defer res.Body.Close()
	p.read(t, res.Body)
}
