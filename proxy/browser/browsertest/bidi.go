package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// A bidi is a session of WebDriver BiDi, https://w3c.github.io/webdriver-bidi/. Several goroutines
// may use it at once.
type bidi struct {
	conn *websocket.Conn

	mu       sync.Mutex
	lastID   int
	waiting  map[int]chan<- answer
	consoles map[string]func(line string) // by browsing context
	err      error                        // why the connection has ended
}

type object = map[string]any

// An answer is what a command led to.
type answer struct {
	Type    string // "success", "error", or "event", which has no ID
	ID      int
	Result  json.RawMessage
	Error   string
	Message string
	Params  struct {
		Level  string
		Text   string
		Source struct{ Context string }
	}
}

// dialBidi begins a session that reports what pages write to their consoles.
func dialBidi(url string) (*bidi, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, url+"/session", nil)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(64 << 20)
	b := &bidi{conn: conn, waiting: map[int]chan<- answer{}, consoles: map[string]func(string){}}
	go b.read()
	err = b.call(ctx, "session.new", object{"capabilities": object{}}, nil)
	if err == nil {
		err = b.call(ctx, "session.subscribe", object{"events": []string{"log.entryAdded"}}, nil)
	}
	return b, err
}

func (b *bidi) close() { b.conn.CloseNow() }

// listen makes console get what a browsing context writes to its console.
func (b *bidi) listen(browsingContext string, console func(line string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.consoles[browsingContext] = console
}

// read passes answers and events on until the connection ends.
func (b *bidi) read() {
	for {
		var a answer
		err := wsjson.Read(context.Background(), b.conn, &a)
		b.mu.Lock()
		if err != nil {
			b.err = err
			for _, waits := range b.waiting {
				close(waits)
			}
			b.mu.Unlock()
			return
		}
		waits, console := b.waiting[a.ID], b.consoles[a.Params.Source.Context]
		delete(b.waiting, a.ID)
		b.mu.Unlock()
		switch {
		case waits != nil:
			waits <- a
		case a.Type == "event" && console != nil:
			console(a.Params.Level + ": " + a.Params.Text)
		}
	}
}

// call sends a command and waits for its result, which it decodes into result; nil: it is dropped.
func (b *bidi) call(ctx context.Context, method string, params, result any) error {
	answers := make(chan answer, 1)
	b.mu.Lock()
	b.lastID++
	id := b.lastID
	b.waiting[id] = answers
	err := b.err
	b.mu.Unlock()
	if err == nil {
		err = wsjson.Write(ctx, b.conn, object{"id": id, "method": method, "params": params})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case a, ok := <-answers:
		switch {
		case !ok:
			return fmt.Errorf("%s: the browser has ended", method)
		case a.Type == "error":
			return fmt.Errorf("%s: %s: %s", method, a.Error, a.Message)
		case result == nil:
			return nil
		}
		return json.Unmarshal(a.Result, result)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// evaluateIn returns the text that an expression is a promise of. target says where it is evaluated.
func (b *bidi) evaluateIn(ctx context.Context, target object, expression string) (string, error) {
	var found struct {
		Type             string
		Result           struct{ Value string }
		ExceptionDetails struct{ Text string }
	}
	err := b.call(ctx, "script.evaluate", object{"expression": expression, "target": target, "awaitPromise": true}, &found)
	if err == nil && found.Type != "success" {
		err = errors.New(found.ExceptionDetails.Text)
	}
	return found.Result.Value, err
}
