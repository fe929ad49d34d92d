package redisclient

import (
	"sync"

	"metergate/quota/redisstore/resp"
)

// Calls of functions that are written together are one command. So Redis reads and checks one command, and enters Lua
// once, and what calls have in common is sent once. They do what they would do one by one, in the same order.
//
// Not every Redis takes such a command: a node of a cluster refuses keys of several slots. After a refusal that may be
// due to that, later calls on this connection are sent one by one. So are all calls to a Redis Cluster.

// A functionCall is what the pipeline has to know of a call of a function.
type functionCall struct {
	resp.Call
	shared     int64
	hadCompany bool // it was sent with others
}

// A batch has the calls that one command makes: a single one of a script, or one or more of the function.
type batch struct{ calls []*scriptCall }

var batches = sync.Pool{New: func() any { return new(batch) }}

// free gives b back to batches. Its calls were answered.
func (b *batch) free() {
	clear(b.calls)
	b.calls = b.calls[:0]
	batches.Put(b)
}

// gather makes batches of the calls that wait: it encodes them to be written, and notes them as sent. The caller holds p.mu.
func (p *pipeline) gather() {
	for rest := p.waiting; len(rest) > 0; {
		b := batches.Get().(*batch)
		b.calls = append(b.calls, rest[:p.together(rest)]...)
		rest = rest[len(b.calls):]
		p.out = p.appendBatch(p.out, b)
		p.sent <- b // has room: there are as many places
	}
	clear(p.waiting)
	p.waiting = p.waiting[:0]
}

// together returns how many of the calls at the beginning of a list can be one command.
func (p *pipeline) together(calls []*scriptCall) int {
	first := calls[0]
	if len(first.command) > 0 || p.functions.oneByOne.Load() {
		return 1
	}
	n := 1
	for n < min(len(calls), resp.MostCalls) && len(calls[n].command) == 0 && calls[n].shared == first.shared {
		n++
	}
	return n
}

// appendBatch appends the command of a batch.
func (p *pipeline) appendBatch(b []byte, of *batch) []byte {
	first := of.calls[0]
	if len(first.command) > 0 {
		return append(b, first.command...)
	}
	p.called = p.called[:0]
	for _, c := range of.calls {
		c.hadCompany = len(of.calls) > 1
		p.called = append(p.called, &c.Call)
	}
	b = p.encoder.Append(b, p.function, first.shared, p.called)
	clear(p.called)
	return b
}
