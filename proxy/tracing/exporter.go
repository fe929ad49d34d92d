package tracing

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	// queueSize and queueBytes bound the spans that wait to be sent, those that are being sent included. More are
	// dropped. A span takes 1 to 2 KB, unless clients send it much text.
	queueSize  = 4096
	queueBytes = 16 << 20
	// spanBytes is what a span takes without its texts, about.
	spanBytes = 1 << 10
	// batchSize bounds the spans of a request to the collector.
	batchSize = 512
)

// times are what an Exporter waits for. Tests have shorter ones.
type times struct {
	gather           time.Duration // the longest that a span waits for others to be sent with it
	retry, maxRetry  time.Duration // before the first retry, and at most before a later one
	giveUp           time.Duration // spans that were not accepted for so long are dropped
	flush            time.Duration // what Stop waits for the collector
	betweenComplains time.Duration // the log hears no more often of a collector that comes and goes
}

var usualTimes = times{gather: time.Second, retry: time.Second, maxRetry: 30 * time.Second, giveUp: time.Minute, flush: 2 * time.Second, betweenComplains: time.Minute}

// An Exporter sends spans to a collector, in the background. It is safe for concurrent use.
//
// Nothing waits for the collector: a span that finds the queue full is dropped and counted.
type Exporter struct {
	log       *slog.Logger
	times     times
	queue     chan sdktrace.ReadOnlySpan
	collector atomic.Pointer[Collector] // nil: spans are not sent
	changed   chan struct{}             // has room for one; the collector is another one

	start    sync.Once
	stop     sync.Once
	stopping chan struct{}   // closed by Stop
	ended    chan struct{}   // closed when nothing is sent any more
	ctx      context.Context // of requests to the collector
	cancel   context.CancelFunc

	waiting                      atomic.Int64 // bytes of the spans in the queue and in the batch
	sent, full, failed, rejected atomic.Int64

	// These belong to the goroutine that sends.
	failing    bool
	complained time.Time // when the log heard that the collector fails
}

// Stats are numbers of spans since the start.
type Stats struct {
	Sent     int64 // and accepted
	Full     int64 // dropped, because too many waited
	Failed   int64 // dropped, because the collector did not accept them in time
	Rejected int64 // dropped by the collector
}

// ExporterOptions configure an Exporter.
type ExporterOptions struct {
	Log *slog.Logger
	// Gather is the longest that a span waits for others to be sent with it; 0: a second.
	Gather time.Duration
}

// NewExporter returns an Exporter without a collector. Until it gets one it runs nothing.
func NewExporter(o ExporterOptions) *Exporter {
	e := &Exporter{log: o.Log, times: usualTimes, queue: make(chan sdktrace.ReadOnlySpan, queueSize),
		changed: make(chan struct{}, 1), stopping: make(chan struct{}), ended: make(chan struct{})}
	e.times.gather = cmp.Or(o.Gather, e.times.gather)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// SetCollector has spans sent to a collector from now on; nil: they are dropped, and not counted.
func (e *Exporter) SetCollector(c *Collector) {
	before := e.collector.Swap(c)
	if before != nil && before != c {
		before.close()
	}
	if c == nil {
		return
	}
	select {
	case e.changed <- struct{}{}:
	default:
	}
	e.start.Do(func() {
		// What the SDK finds to complain about would go to the standard error.
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { e.log.Debug("OpenTelemetry reports an error", "error", err) }))
		go e.run()
	})
}

// Stats returns what became of the spans so far.
func (e *Exporter) Stats() Stats {
	return Stats{Sent: e.sent.Load(), Full: e.full.Load(), Failed: e.failed.Load(), Rejected: e.rejected.Load()}
}

// Stop sends what waits, for two seconds at most, and then drops the rest. It returns when the context ends,
// if that is earlier. No span is sent after it.
func (e *Exporter) Stop(ctx context.Context) error {
	running := true
	e.start.Do(func() { running = false })
	if !running {
		return nil
	}
	e.stop.Do(func() {
		close(e.stopping)
		time.AfterFunc(e.times.flush, e.cancel)
	})
	select {
	case <-e.ended:
	case <-ctx.Done():
	}
	e.cancel()
	return nil
}

// A processor is an Exporter as the SDK sees it.
type processor struct{ *Exporter }

// OnStart implements sdktrace.SpanProcessor.
func (processor) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor.
func (p processor) OnEnd(s sdktrace.ReadOnlySpan) {
	if p.collector.Load() == nil {
		return
	}
	n := sizeOf(s)
	if p.waiting.Add(n) <= queueBytes {
		select {
		case p.queue <- s:
			return
		default:
		}
	}
	p.waiting.Add(-n)
	p.full.Add(1)
}

// sizeOf returns about how many bytes a span takes.
func sizeOf(s sdktrace.ReadOnlySpan) int64 {
	n := spanBytes + len(s.Name()) + len(s.Status().Description)
	for _, a := range s.Attributes() {
		n += int(unsafe.Sizeof(a)) + len(a.Value.AsString())
	}
	s.SpanContext().TraceState().Walk(func(key, value string) bool {
		n += int(unsafe.Sizeof(key)+unsafe.Sizeof(value)) + len(key) + len(value)
		return true
	})
	return int64(n)
}

// Shutdown implements sdktrace.SpanProcessor. Nobody calls it: Stop is for all Tracers.
func (processor) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (processor) ForceFlush(context.Context) error { return nil }

// run sends spans until Stop.
func (e *Exporter) run() {
	defer close(e.ended)
	batch := make([]sdktrace.ReadOnlySpan, 0, batchSize)
	send := func() {
		e.send(batch)
		for _, s := range batch {
			e.waiting.Add(-sizeOf(s))
		}
		clear(batch) // so that it keeps no spans
		batch = batch[:0]
	}
	gathered := time.NewTimer(0)
	defer gathered.Stop()
	for {
		select {
		case s := <-e.queue:
			if len(batch) == 0 {
				gathered.Reset(e.times.gather)
			}
			if batch = append(batch, s); len(batch) == batchSize {
				send()
			}
		case <-gathered.C:
			send()
		case <-e.stopping:
			for {
				select {
				case s := <-e.queue:
					if batch = append(batch, s); len(batch) == batchSize {
						send()
					}
					continue
				default:
				}
				send()
				return
			}
		}
	}
}

// send sends a batch, again and again until the collector accepts it or the time is up.
func (e *Exporter) send(batch []sdktrace.ReadOnlySpan) {
	if len(batch) == 0 {
		return
	}
	began, n := time.Now(), int64(len(batch))
	for wait := e.times.retry; ; wait = min(2*wait, e.times.maxRetry) {
		c, last := e.collector.Load(), e.isStopping()
		if c == nil {
			return
		}
		err := c.send(e.ctx, batch)
		if err == nil {
			e.sent.Add(n)
			e.noteSuccess()
			return
		}
		e.noteFailure(err)
		var failure *sendError
		errors.As(err, &failure)
		if failure.rejected > 0 {
			e.rejected.Add(failure.rejected)
			e.sent.Add(max(0, n-failure.rejected))
			return
		}
		pause := max(failure.after, wait/2+rand.N(wait))
		if last || !failure.temporary || time.Since(began)+pause > e.times.giveUp {
			e.failed.Add(n)
			return
		}
		e.pause(pause)
	}
}

func (e *Exporter) isStopping() bool {
	select {
	case <-e.stopping:
		return true
	default:
		return false
	}
}

// pause waits, but for no collector that is not asked any more, nor when the Exporter stops.
func (e *Exporter) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.changed:
	case <-e.stopping:
	}
}

func (e *Exporter) noteFailure(err error) {
	if !e.failing && time.Since(e.complained) > e.times.betweenComplains {
		e.complained = time.Now()
		e.log.Warn("spans cannot be sent to the collector of tracing.url; requests are served all the same", "error", err)
	}
	e.failing = true
}

func (e *Exporter) noteSuccess() {
	if e.failing {
		e.failing = false
		s := e.Stats()
		e.log.Info("spans are sent to the collector of tracing.url again", "dropped", s.Full+s.Failed+s.Rejected)
	}
}
