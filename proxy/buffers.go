package proxy

import "sync"

// buffers are the buffers through which ReverseProxy copies bodies.
var buffers bufferPool

// A bufferPool is an httputil.BufferPool of 32 KiB buffers. It pools pointers to arrays:
// with slices, each Put would allocate.
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
