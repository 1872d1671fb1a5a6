package mqtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// inbound is the reading end of a connection. Paho reads from it and receives all packets but PUBLISH. inbound reads those itself, each payload into
// its own buffer, and passes them on in the order of arrival: paho would make 15 objects of each, copy it twice, pass it through four goroutines, and
// allocate the whole packet before it reads the first byte.
//
// Messages that have arrived together are passed on together. While the handler works, at most one further batch is read, and no payload of largeFrom
// bytes or more. The broker's answers to paho's pings are behind the unread packets, so Read itself returns an answer whenever it waits for the
// handler, or for the rest of a long packet.
//
// A PUBLISH of more than max bytes is skipped while it is read, reported to skipped, and passed on without a payload, so that it is acknowledged in
// its turn and the broker does not send it again. A larger packet of another type, or one that is not MQTT, ends the connection with an error.
//
// Read is for one goroutine, like paho's, and returns an error only when everything read before has been handled. It holds no more than the buffer,
// the topic (64 KiB), and the messages of two batches, which all fit the buffer but for one.
type inbound struct {
	net.Conn
	r       *bufio.Reader
	max     int             // bytes of a PUBLISH without its fixed header
	skipped func(Oversized) // must not block; may be nil
	freed   bool            // whether messages will be freed
	filters *atomic.Int64   // maximum number of codes of a SUBACK; paho panics at more
	deliver deliverer

	out      []byte // to be read before all else
	left     int    // bytes of the current packet for paho
	header   [maxHeader]byte
	answered bool // the CONNACK has arrived
	err      error

	rest    int // unread bytes of the current PUBLISH
	reading bool
	message Message
	over    Oversized // the current PUBLISH, if it is skipped
	pong    time.Time // of the last answer, or the begin of the current PUBLISH
	scratch []byte
	topics  map[string]string // avoids allocating a repeated topic
}

// Oversized describes a PUBLISH whose payload was skipped.
type Oversized struct {
	Topic    string // cut to 256 bytes
	Size     int    // of the whole packet, in bytes, without its fixed header
	QoS      byte
	PacketID uint16 // 0 at QoS 0
}

const (
	maxTopic   = 256       // bytes of Oversized.Topic
	maxControl = 64 << 10  // bytes of a packet without payload
	largeFrom  = 256 << 10 // packet size from which at most one unhandled payload is in memory
	maxTopics  = 1024      // maximum number of remembered topics
	pongEvery  = time.Second
)

// The parts of MQTT's fixed header in use.
const (
	typePublish  = 3
	typeSuback   = 9
	pingResponse = 0xD0
	lastRefusal  = 5 // return code of a CONNACK
	qosMask      = 3
	maxHeader    = 5
)

// newInbound reads conn through a buffer. receive is called on its own goroutine, and must not keep the slice. maxPacket is the max of inbound, 0 for
// none.
func newInbound(conn net.Conn, buffer, maxPacket int, skipped func(Oversized), receive func([]Message)) *inbound {
	if maxPacket == 0 {
		maxPacket = 1 << 28 // the limit of MQTT
	}
	return &inbound{
		Conn: conn, r: bufio.NewReaderSize(conn, buffer), max: maxPacket, skipped: skipped, deliver: deliverer{receive: receive},
		topics: map[string]string{}, filters: new(atomic.Int64),
	}
}

func (c *inbound) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch {
		case len(c.out) > 0:
			n := copy(p, c.out)
			c.out = c.out[n:]
			return n, nil
		case c.left > 0:
			n, err := c.r.Read(p[:min(len(p), c.left)])
			if c.left -= n; n > 0 {
				return n, nil
			}
			c.err = err
		case c.reading:
			c.err = c.piece()
		case c.due() && !c.handOn():
			c.answerPing()
		case c.err != nil:
			c.deliver.end()
			return 0, c.err
		default:
			c.err = c.packet()
		}
		if c.err != nil {
			c.reading, c.left = false, 0
		}
	}
}

// due reports whether the batch must be passed on now, as the next packet may arrive late.
func (c *inbound) due() bool { return c.err != nil || c.deliver.full() || !c.buffered() }

// handOn passes the batch on. It returns false if an answer to a ping is due, because the handler has blocked Read.
func (c *inbound) handOn() bool {
	d := &c.deliver
	if len(d.batch) == 0 {
		return true
	}
	return d.flush(pongEvery) && (d.waits.IsZero() || time.Since(d.waits) < pongEvery)
}

// buffered reports whether all of the next packet has arrived.
func (c *inbound) buffered() bool {
	b, _ := c.r.Peek(min(c.r.Buffered(), maxHeader))
	if len(b) == 0 {
		return false
	}
	length, n := binary.Uvarint(b[1:])
	return n > 0 && uint64(c.r.Buffered()) >= 1+uint64(n)+length
}

func (c *inbound) answerPing() {
	c.pong, c.out = time.Now(), []byte{pingResponse, 0}
	c.deliver.waits = time.Time{}
}

// packet reads the fixed header of the next packet and, for a PUBLISH, everything before the payload.
func (c *inbound) packet() error {
	first, err := c.r.ReadByte()
	if err != nil {
		return err
	}
	head := append(c.header[:0], first)
	length := 0
	for shift := 0; ; shift += 7 {
		b, err := c.r.ReadByte()
		if err != nil {
			return err
		}
		head = append(head, b)
		length |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
		if shift == 21 {
			return fmt.Errorf("reading an MQTT packet: length of more than four bytes (% x)", head)
		}
	}
	switch {
	case first>>4 == typePublish && c.answered:
		return c.publish(first, length)
	case first>>4 == typePublish:
		return errors.New("reading an MQTT packet: PUBLISH before CONNACK")
	case length > maxControl:
		return fmt.Errorf("reading an MQTT packet of type %d: %d bytes, expected at most %d", first>>4, length, maxControl)
	case first>>4 == typeSuback && length-2 > int(c.filters.Load()):
		return fmt.Errorf("reading an MQTT packet: SUBACK with %d codes for %d filters", length-2, c.filters.Load())
	}
	if !c.answered && length == 2 {
		if connack, _ := c.r.Peek(2); len(connack) == 2 && connack[1] > lastRefusal { // paho takes it for a success
			return fmt.Errorf("the broker refuses the connection with the unknown return code %d", connack[1])
		}
	}
	c.answered, c.out, c.left = true, head, length
	return nil
}

// publish reads the topic and the packet id of a PUBLISH.
func (c *inbound) publish(first byte, length int) error {
	m := Message{QoS: first >> 1 & qosMask, Retained: first&1 != 0}
	if length < 2 {
		return fmt.Errorf("reading an MQTT packet: PUBLISH of %d bytes, which has no topic", length)
	}
	head, err := c.take(2)
	if err != nil {
		return err
	}
	size, idSize := int(binary.BigEndian.Uint16(head)), 0
	if m.QoS > 0 {
		idSize = 2
	}
	c.rest = length - 2 - size - idSize
	if m.QoS == qosMask || c.rest < 0 {
		return fmt.Errorf("reading an MQTT packet: PUBLISH of %d bytes with QoS %d and %d bytes of topic", length, m.QoS, size)
	}
	head, err = c.take(size + idSize)
	if err != nil {
		return err
	}
	m.Topic = c.topic(head[:size])
	if m.QoS > 0 {
		m.id = binary.BigEndian.Uint16(head[size:])
	}
	if length > c.max {
		m.Oversized = length
		c.over = Oversized{Topic: string(head[:min(size, maxTopic)]), Size: length, QoS: m.QoS, PacketID: m.id}
	}
	c.message, c.reading = m, true
	if c.r.Buffered() < c.rest {
		c.pong = time.Now()
	}
	return nil
}

// take reads n bytes, which are valid until the next call.
func (c *inbound) take(n int) ([]byte, error) {
	if cap(c.scratch) < n {
		c.scratch = make([]byte, n)
	}
	_, err := io.ReadFull(c.r, c.scratch[:n])
	return c.scratch[:n], err
}

// topic returns the bytes as a string, which is allocated once for most topics.
func (c *inbound) topic(b []byte) string {
	if t, known := c.topics[string(b)]; known {
		return t
	}
	t := string(b)
	if len(b) <= maxTopic {
		if len(c.topics) == maxTopics {
			clear(c.topics)
		}
		c.topics[t] = t
	}
	return t
}

// piece reads some of the payload and, with the last piece, adds the message to the batch.
func (c *inbound) piece() error {
	n, err := c.some()
	c.rest -= n
	switch {
	case err != nil:
		return err
	case c.rest > 0:
		if time.Since(c.pong) >= pongEvery {
			c.answerPing()
		}
		return nil
	}
	if c.message.Oversized > 0 && c.skipped != nil {
		c.skipped(c.over)
	}
	c.deliver.batch = append(c.deliver.batch, c.message)
	c.message, c.reading = Message{}, false
	return nil
}

// some reads bytes of the payload from the connection, and returns their number.
func (c *inbound) some() (int, error) {
	m := &c.message
	switch {
	case m.Oversized > 0:
		return c.r.Discard(min(c.rest, c.r.Size()))
	case m.Payload == nil && c.rest >= largeFrom && !c.deliver.rests(pongEvery): // the batch before is flushed
		return 0, nil
	case m.Payload == nil:
		m.allocate(c.rest, c.freed)
	}
	if c.rest == 0 {
		return 0, nil
	}
	return c.r.Read(m.Payload[len(m.Payload)-c.rest:])
}

// deliverer passes messages on, one batch at a time, on its own goroutine, which starts with the first batch. All methods but run belong to the
// reading goroutine.
type deliverer struct {
	receive      func([]Message) // must not keep the slice
	batch, spare []Message       // spare has the memory of the previous batch
	work         chan []Message  // nil before the first batch
	idle         chan struct{}   // has a token while receive does not run
	ended        chan struct{}
	waits        time.Time // since when receive has been running at each wait; zero if it was idle at the latest
	rested       bool      // rests waited, so that flush finds receive idle
}

// maxBatch is the maximum number of messages in a batch.
const maxBatch = 64

func (d *deliverer) full() bool { return len(d.batch) == maxBatch }

// flush passes the batch on. It returns false if receive did not return in time.
func (d *deliverer) flush(within time.Duration) bool {
	if len(d.batch) == 0 {
		return true
	}
	if d.work == nil {
		d.work, d.idle, d.ended = make(chan []Message, 1), make(chan struct{}, 1), make(chan struct{})
		d.idle <- struct{}{}
		go d.run()
	}
	if !d.take(within) {
		return false
	}
	d.rested = false
	d.work <- d.batch
	d.batch, d.spare = d.spare[:0], d.batch
	return true
}

// rests waits until receive is idle, and reports whether it was in time. The batch must be empty.
func (d *deliverer) rests(within time.Duration) bool {
	if d.work == nil {
		return true
	}
	d.rested = false
	if !d.take(within) {
		return false
	}
	d.rested = d.waits != time.Time{}
	d.idle <- struct{}{}
	return true
}

func (d *deliverer) take(within time.Duration) bool {
	select {
	case <-d.idle:
		if !d.rested {
			d.waits = time.Time{}
		}
		return true
	default:
	}
	if d.waits.IsZero() {
		d.waits = time.Now()
	}
	select {
	case <-d.idle:
		return true
	case <-time.After(within):
		return false
	}
}

func (d *deliverer) run() {
	defer close(d.ended)
	for batch := range d.work {
		d.receive(batch)
		clear(batch) // it holds the payloads
		d.idle <- struct{}{}
	}
}

// end waits for the goroutine. Nothing may be added or flushed afterwards.
func (d *deliverer) end() {
	if d.work != nil {
		close(d.work)
		<-d.ended
		d.work = nil
	}
}

// Buffers of small payloads are reused once their user has freed them. Each pool has the buffers of one power of two, so that no buffer is more than
// twice as large as its payload.
const (
	minPooled = 9  // bits of the smallest size
	maxPooled = 16 // bits of the largest size
)

var payloads [maxPooled - minPooled + 1]sync.Pool

// poolOf returns the pool of a payload of n bytes and the size of its buffers; a larger payload has no pool.
func poolOf(n int) (pool *sync.Pool, size int) {
	order := max(bits.Len(uint(max(n, 1)-1)), minPooled) // n is a size
	if order > maxPooled {
		return nil, n
	}
	return &payloads[order-minPooled], 1 << order
}

// allocate gives the message memory for a payload of n bytes, from a pool if it will be freed.
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

// Free allows reuse of the payload's memory, if it has at most 64 KiB and Options.Frees is set: no reference to it may remain. A message need not be
// freed, and must not be freed twice, not even as a copy.
func (m Message) Free() {
	if m.buffer != nil {
		pool, _ := poolOf(len(*m.buffer))
		pool.Put(m.buffer)
	}
}
