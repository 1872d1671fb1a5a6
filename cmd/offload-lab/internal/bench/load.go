package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// load publishes events as fast as they are taken, or at a steady rate. It writes packets itself, because a client library would need more
// CPU for sending than the service needs for receiving, and both share the cores.
//
// Two windows hold it back. Events that are not concluded end to end, by what the bench says on the standard input, are
// at most window many: so no broker has to drop or to store without bound, at either QoS. At QoS 1, messages that the
// broker has not acknowledged are at most unacked many.
type load struct {
	broker              string
	events, window, qos int
	rate                int // events a second, 0 for as many as are taken
	form                maker
	began               int64 // ns since the Unix epoch; when the first event is due, at a rate

	mu        sync.Mutex
	moved     *sync.Cond
	acked     int
	concluded int
	err       error
}

// unacked is the publisher's window at QoS 1.
const unacked = 1000

// keepAlive is off: the load never rests for long, and it ends with the bench.
const keepAlive = 0

func (l *load) run(ctx context.Context, feedback io.Reader) error {
	l.moved = sync.NewCond(&l.mu)
	conn, err := l.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { l.fail(ctx.Err()) })()
	go l.listen(conn) // ends with the connection
	go l.heed(feedback)
	if err := l.publishAll(conn); err != nil {
		return fmt.Errorf("publishing at %s: %w", l.broker, err)
	}
	return l.wait(func() bool { return l.concluded >= l.events })
}

func (l *load) connect(ctx context.Context) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.broker)
	if err != nil {
		return nil, fmt.Errorf("connecting the load: %w", err)
	}
	c := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	c.ProtocolName, c.ProtocolVersion, c.ClientIdentifier, c.CleanSession, c.Keepalive = "MQTT", 4, "bench-load", true, keepAlive
	if err := c.Write(conn); err != nil {
		return nil, errors.Join(fmt.Errorf("connecting the load to %s: %w", l.broker, err), conn.Close())
	}
	answer, err := packets.ReadPacket(conn)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connecting the load to %s: %w", l.broker, err), conn.Close())
	}
	if ack, ok := answer.(*packets.ConnackPacket); !ok || ack.ReturnCode != packets.Accepted {
		return nil, errors.Join(fmt.Errorf("the broker at %s answered the load's CONNECT with %s", l.broker, answer), conn.Close())
	}
	return conn, nil
}

// listen counts acknowledgements.
func (l *load) listen(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		p, err := packets.ReadPacket(in)
		if err != nil {
			l.fail(err)
			return
		}
		if _, ok := p.(*packets.PubackPacket); ok {
			l.note(func() { l.acked++ })
		}
	}
}

// heed reads how many events are concluded, a number a line. The end of the input is the end of the bench.
func (l *load) heed(feedback io.Reader) {
	in := bufio.NewScanner(feedback)
	for in.Scan() {
		if n, err := strconv.Atoi(strings.TrimSpace(in.Text())); err == nil {
			l.note(func() { l.concluded = max(l.concluded, n) })
		}
	}
	l.fail(errors.New("the bench has ended"))
}

func (l *load) note(what func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what()
	l.moved.Broadcast()
}

func (l *load) fail(err error) {
	l.note(func() {
		if l.err == nil {
			l.err = err
		}
	})
}

// wait blocks until ok holds, which is asked under the lock, or until the load has failed.
func (l *load) wait(ok func() bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !ok() && l.err == nil {
		l.moved.Wait()
	}
	if !ok() {
		return l.err
	}
	return nil
}

func (l *load) publishAll(w io.Writer) error {
	out, topics, m := bufio.NewWriterSize(w, 64<<10), topics(), l.form
	var packet []byte
	for n := range l.events {
		if err := l.turn(n, out); err != nil {
			return err
		}
		if err := l.room(n, out); err != nil {
			return err
		}
		packet = appendPublish(packet[:0], topics[n%devices], l.qos, n, m.make(n, time.Now()))
		if _, err := out.Write(packet); err != nil {
			return err
		}
	}
	return out.Flush()
}

// turn waits for the moment of the n-th event. What is buffered leaves first.
func (l *load) turn(n int, out *bufio.Writer) error {
	if l.rate == 0 {
		return nil
	}
	wait := time.Until(time.Unix(0, l.began).Add(time.Duration(n) * (time.Second / time.Duration(l.rate))))
	if wait <= 0 {
		return nil
	}
	if err := out.Flush(); err != nil {
		return err
	}
	time.Sleep(wait)
	return nil
}

// room waits until the n-th event may go. What is buffered leaves first, since others wait for it.
func (l *load) room(n int, out *bufio.Writer) error {
	ok := func() bool { return n-l.concluded < l.window && (l.qos == 0 || n-l.acked < unacked) }
	l.mu.Lock()
	free := ok()
	l.mu.Unlock()
	if free {
		return nil
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return l.wait(ok)
}

// appendPublish writes a PUBLISH packet of MQTT 3.1.1. Packet ids repeat after 65,535, long after they are free again.
func appendPublish(dst []byte, topic string, qos, n int, payload []byte) []byte {
	length := 2 + len(topic) + len(payload)
	if qos > 0 {
		length += 2
	}
	dst = append(dst, packets.Publish<<4|byte(qos)<<1)           // 0 or 1
	dst = binary.AppendUvarint(dst, uint64(length))              // MQTT's remaining length is the same varint
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(topic))) // a topic of ours
	dst = append(dst, topic...)
	if qos > 0 {
		dst = binary.BigEndian.AppendUint16(dst, uint16(n%65535+1)) // 1 to 65535
	}
	return append(dst, payload...)
}
