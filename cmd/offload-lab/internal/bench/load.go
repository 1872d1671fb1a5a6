package bench

import (
	"bufio"
	"context"
	"encoding/base64"
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

// load publishes events as fast as possible, or at a fixed rate. It writes packets itself, because a client library would need more CPU for sending
// than the service for receiving, and both share the cores.
//
// Two windows limit it. At most window events are in flight end to end, as the bench reports on the standard input: so no broker must drop or store
// without bound, at either QoS. At QoS 1, at most unacked messages are not acknowledged by the broker.
type load struct {
	broker              string
	events, window, qos int
	rate                int // events per second, 0 means the maximum
	form                maker
	began               int64 // ns since the Unix epoch; due time of the first event at a fixed rate

	mu        sync.Mutex
	moved     *sync.Cond
	acked     int
	concluded int
	err       error
}

// unacked is the publisher's window at QoS 1.
const unacked = 1000

// keepAlive is off: the load never pauses for long, and it exits with the bench.
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

// heed reads the number of concluded events, one number per line. The end of the input ends the bench.
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

// wait blocks until ok, which is called with the lock held, returns true, or the load has failed.
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

// turn waits for the due time of the n-th event. It flushes the buffer first.
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

// room waits until the n-th event may be sent. It flushes the buffer first, since the window waits for those events.
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

// appendPublish writes a PUBLISH packet of MQTT 3.1.1. Packet ids repeat after 65,535, long after their acknowledgement.
func appendPublish(dst []byte, topic string, qos, n int, payload []byte) []byte {
	length := 2 + len(topic) + len(payload)
	if qos > 0 {
		length += 2
	}
	dst = append(dst, packets.Publish<<4|byte(qos)<<1)           // 0 or 1
	dst = binary.AppendUvarint(dst, uint64(length))              // MQTT's remaining length is the same varint
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(topic))) // our own topic
	dst = append(dst, topic...)
	if qos > 0 {
		dst = binary.BigEndian.AppendUint16(dst, uint16(n%65535+1)) // 1 to 65535
	}
	return append(dst, payload...)
}

// The load's events come from a few devices, so that both order per device and work per device matter.
const (
	devices     = 8
	serviceName = "bench-device-service"
	profile     = "Bench"
	source      = "Value"
)

// topics returns the topics of the devices' events.
func topics() [devices]string {
	var all [devices]string
	for i := range all {
		all[i] = fmt.Sprintf("edgex/events/device/%s/%s/%s/%s", serviceName, profile, deviceName(i), source)
	}
	return all
}

func deviceName(i int) string { return "bench-" + strconv.Itoa(i%devices) }

// appendID writes the event's number as a UUID; numberOf is its inverse.
func appendID(dst []byte, n int) []byte { return fmt.Appendf(dst, "%08x-0000-4000-8000-%012x", n, n) }

// numberOf returns the number of an event by its id, or -1 for a foreign event.
func numberOf(id string) int {
	if len(id) != 36 {
		return -1
	}
	n, err := strconv.ParseUint(id[24:], 16, 31)
	if err != nil || string(appendID(nil, int(n))) != id {
		return -1
	}
	return int(n)
}

// maker writes messages as a device service of EdgeX 3.1 does: an envelope with an AddEventRequest.
type maker struct {
	readings             int // per event; 0 means one
	size                 int // bytes of the first reading's value, a string; 0 means a number
	id, payload, message []byte
}

// make returns the n-th message, which is valid until the next call.
func (m *maker) make(n int, at time.Time) []byte {
	m.id = appendID(m.id[:0], n)
	m.payload = fmt.Appendf(m.payload[:0], `{"apiVersion":"v3","requestId":"%[1]s","event":{"apiVersion":"v3","id":"%[1]s","deviceName":"%[2]s",`+
		`"profileName":"`+profile+`","sourceName":"`+source+`","origin":%[3]d,"readings":[`,
		m.id, deviceName(n), at.UnixNano())
	for i := range max(m.readings, 1) {
		m.reading(n, i, at)
	}
	m.payload = append(m.payload[:len(m.payload)-1], "]}}"...) // without the last comma
	m.message = append(m.message[:0], `{"apiVersion":"v3","receivedTopic":"","correlationID":"`...)
	m.message = append(m.message, m.id...)
	m.message = append(m.message, `","requestID":"","errorCode":0,"payload":"`...)
	m.message = base64.StdEncoding.AppendEncode(m.message, m.payload)
	m.message = append(m.message, `","contentType":"application/json"}`...)
	return m.message
}

// reading appends a reading and a comma. Only the first one has the name of the source: its windows count the events.
func (m *maker) reading(n, i int, at time.Time) {
	resource := source
	if i > 0 {
		resource += strconv.Itoa(i)
	}
	m.payload = fmt.Appendf(m.payload, `{"id":"%s","origin":%d,"deviceName":"%s","resourceName":"%s","profileName":"`+profile+`",`,
		m.id, at.UnixNano(), deviceName(n), resource)
	if i > 0 || m.size == 0 {
		m.payload = fmt.Appendf(m.payload, `"valueType":"Float64","units":"Cel","value":"%e"},`, 20+float64(n%100)/10)
		return
	}
	m.payload = append(m.payload, `"valueType":"String","value":"`...)
	for at, state := 0, uint64(n); at < m.size; at += 16 { // digits that do not compress well
		state = state*6364136223846793005 + 1442695040888963407
		m.payload = fmt.Appendf(m.payload, "%016x", state)
	}
	m.payload = append(m.payload, `"},`...)
}
