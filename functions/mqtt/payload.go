package mqtt

import (
	"math/bits"
	"sync"
)

// Buffers of small payloads are used again once their user has freed them. Each pool has those of one power of two, so that none is more than
// twice as large as its payload.
const (
	minPooled = 9  // bits of the size of the smallest
	maxPooled = 16 // and of the largest
)

var payloads [maxPooled - minPooled + 1]sync.Pool

// poolOf is the pool of a payload of n bytes and the size of its buffers; a larger payload has no pool.
func poolOf(n int) (pool *sync.Pool, size int) {
	order := max(bits.Len(uint(max(n, 1)-1)), minPooled) // n is a size
	if order > maxPooled {
		return nil, n
	}
	return &payloads[order-minPooled], 1 << order
}

// allocate gives the message room for a payload of n bytes, of a pool where it will be freed.
func (m *Message) allocate(n int, freed bool) {
	pool, size := poolOf(n)
	if pool == nil || !freed {
		m.Payload = make([]byte, n)
		return
	}
	m.buffer, _ = pool.Get().(*[]byte)
	if m.buffer == nil {
		b := make([]byte, size)
		m.buffer = &b
	}
	m.Payload = (*m.buffer)[:n:n]
}

// Free lets the payload's memory be used again, if it has at most 64 KiB and Options.Frees is set: nothing may refer to it any more. A message need
// not be freed, and must not be freed twice, be it as a copy.
func (m Message) Free() {
	if m.buffer != nil {
		pool, _ := poolOf(len(*m.buffer))
		pool.Put(m.buffer)
	}
}
