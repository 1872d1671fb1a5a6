package mqtt

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"
)

// Oversized describes a PUBLISH whose payload Limit has skipped.
type Oversized struct {
	Topic    string // cut to 256 bytes
	Size     int    // of the whole packet, in bytes, without its fixed header
	QoS      byte
	PacketID uint16 // 0 at QoS 0
}

const (
	maxTopic   = 256      // bytes of Oversized.Topic
	maxControl = 64 << 10 // bytes of a packet that carries no payload
	readSize   = 4 << 10
	pongEvery  = time.Second
)

// The parts of MQTT's fixed header that matter here.
const (
	typePublish  = 3
	pingResponse = 0xD0
	qosMask      = 3
)

// Limit wraps a connection for paho (ClientOptions.SetCustomOpenConnectionFn), so that no PUBLISH of more than max bytes
// (without its fixed header) reaches it: paho allocates the whole of a packet before it reads it. Such a PUBLISH is skipped
// while it is read, reported to cut, and replaced by one of the same topic, flags and packet id whose payload is a mark
// of a few bytes. The message handler receives it in its turn, recognises it with Skipped, and acknowledges it like any
// other, so that the broker does not send it again. A handler that does not ask finds a payload that nothing can parse.
//
// A larger packet of another type, or one that is not MQTT, ends the connection with an error. While a long PUBLISH is
// skipped, Limit answers paho's pings itself, because the broker's answer is behind the skipped bytes.
//
// Limit holds at most 4 KiB of what it reads, and up to 64 KiB of topic. cut is called on the goroutine that reads, before the
// replacement is read; it must not block, and may be nil. Read is for one goroutine, as paho does it; everything else goes
// to conn.
func Limit(conn net.Conn, maxPacket int, cut func(Oversized)) net.Conn {
	if cut == nil {
		cut = func(Oversized) {}
	}
	return &limited{Conn: conn, r: bufio.NewReaderSize(conn, readSize), max: maxPacket, cut: cut, closed: make(chan struct{})}
}

// limited is between two packets while left and out are empty.
type limited struct {
	net.Conn
	r   *bufio.Reader
	max int
	cut func(Oversized)

	apart   *apart // takes large payloads past paho; nil lets them pass
	collect bool   // the bytes to be skipped, into large
	large   []byte // the payload, nil until there is room for it
	closed  chan struct{}
	once    sync.Once

	out  []byte // to be read before all else
	left int    // bytes of the current packet that pass as they are
	skip int    // bytes of the current packet that are thrown away
	then func() // what follows the skipped bytes
	pong time.Time
	err  error
}

func (c *limited) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch {
		case len(c.out) > 0:
			n := copy(p, c.out)
			c.out = c.out[n:]
			return n, nil
		case c.err != nil:
			return 0, c.err
		case c.left > 0:
			n, err := c.r.Read(p[:min(len(p), c.left)])
			c.left -= n
			return n, err
		case c.then != nil:
			c.err = c.throwAway()
		default:
			c.err = c.packet()
		}
	}
}

// packet reads the fixed header of the next packet and decides what becomes of the rest.
func (c *limited) packet() error {
	first, err := c.r.ReadByte()
	if err != nil {
		return err
	}
	head := append(make([]byte, 0, 5), first)
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
	if first>>4 == typePublish && (length > c.max || c.apart != nil && length >= apartFrom) {
		return c.oversized(first, length)
	}
	if first>>4 != typePublish && length > maxControl {
		return fmt.Errorf("reading an MQTT packet of type %d: %d bytes, expected at most %d", first>>4, length, maxControl)
	}
	c.out, c.left = head, length
	return nil
}

// oversized reads the topic and the packet id of a PUBLISH, and has the rest thrown away, or taken past paho if it is not too large.
func (c *limited) oversized(first byte, length int) error {
	qos := first >> 1 & qosMask
	var n [2]byte
	if err := c.fill(n[:]); err != nil {
		return err
	}
	size := 2 + int(binary.BigEndian.Uint16(n[:]))
	idSize := 0
	if qos > 0 {
		idSize = 2
	}
	if qos == qosMask || size+idSize > length {
		return fmt.Errorf("reading an MQTT packet: PUBLISH of %d bytes with QoS %d and %d bytes of topic", length, qos, size)
	}
	body := make([]byte, size+idSize, size+idSize+skippedSize)
	copy(body, n[:])
	if err := c.fill(body[2:]); err != nil {
		return err
	}
	over := Oversized{Topic: string(body[2:min(size, 2+maxTopic)]), Size: length, QoS: qos}
	if qos > 0 {
		over.PacketID = binary.BigEndian.Uint16(body[size:])
	}
	c.skip = length - len(body)
	c.pong = time.Now()
	c.collect = length <= c.max
	c.then = func() {
		stands := uint64(length) // below 2²⁸
		if c.collect {
			stands = c.apart.put(c.large)
			c.large = nil
		} else {
			c.cut(over)
		}
		body = appendMark(body, stands)
		c.out = append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...)
	}
	return nil
}

// Close also ends a Read that waits for room.
func (c *limited) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// throwAway skips or collects a piece. A PINGRESP between the pieces is within the protocol, since paho sees none of the packet yet.
func (c *limited) throwAway() error {
	if c.skip == 0 {
		then := c.then
		c.then = nil
		then()
		return nil
	}
	n, err := c.piece()
	c.skip -= n
	if now := time.Now(); now.Sub(c.pong) >= pongEvery {
		c.pong, c.out = now, []byte{pingResponse, 0}
	}
	return err
}

// piece takes bytes off the connection, and reports how many.
func (c *limited) piece() (int, error) {
	switch {
	case !c.collect:
		return c.r.Discard(min(c.skip, readSize))
	case c.large == nil:
		room, err := c.apart.wait(c.closed)
		if room {
			c.large = make([]byte, c.skip)
		}
		return 0, err
	default:
		return c.r.Read(c.large[len(c.large)-c.skip:])
	}
}

func (c *limited) fill(p []byte) error {
	for len(p) > 0 {
		n, err := c.r.Read(p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// mark begins the payload of a replacement. It is drawn at the start, so that no peer can send it.
var mark = func() (m [16]byte) {
	_, _ = rand.Read(m[:]) // never fails
	return m
}()

const skippedSize = len(mark) + 8

func appendMark(to []byte, stands uint64) []byte {
	return binary.BigEndian.AppendUint64(append(to, mark[:]...), stands)
}

// markOf is what a mark stands for, 0 for any other payload.
func markOf(payload []byte) uint64 {
	if len(payload) != skippedSize || [len(mark)]byte(payload) != mark {
		return 0
	}
	return binary.BigEndian.Uint64(payload[len(mark):])
}

// Skipped reports whether a message's payload is Limit's mark for one that was too large, and the size in bytes of the
// packet that it replaces.
func Skipped(payload []byte) (size int, ok bool) {
	stands := markOf(payload)
	if stands == 0 || stands&apartMark != 0 {
		return 0, false
	}
	return int(stands), true
}
