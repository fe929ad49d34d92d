package proxy

import "sync"

// buffers are what bodies are copied through.
var buffers bufferPool

// A bufferPool is an httputil.BufferPool of 32 KiB buffers. It pools pointers to
// arrays: a slice would be allocated anew with each Put.
type bufferPool struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[bufferSize]byte); ok {
		return b[:]
	}
	return make([]byte, bufferSize)
}

func (p *bufferPool) Put(b []byte) {
	if len(b) == bufferSize {
		p.pool.Put((*[bufferSize]byte)(b))
	}
}
