package mqtt

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

// stream is a connection of which only the reading end is used.
type stream struct {
	net.Conn
	io.Reader
}

func (s stream) Read(p []byte) (int, error) { return s.Reader.Read(p) }

func publishOf(topic string, qos byte, id uint16, size int, payload byte) []byte {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Qos, p.MessageID, p.Payload = topic, qos, id, bytes.Repeat([]byte{payload}, size)
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// connack is the first packet of each connection.
var connack = []byte{packets.Connack << 4, 2, 0, 0}

// readAll reads as paho does, and returns the packets, the messages, and the error at the end.
func readAll(t testing.TB, r io.Reader, maxPacket int, skipped func(Oversized)) (others []packets.ControlPacket, messages []Message, err error) {
	t.Helper()
	buffer := []int{64, 64 << 10}[rand.IntN(2)] // the larger one holds more messages than a batch
	c := newInbound(stream{Reader: io.MultiReader(bytes.NewReader(connack), r)}, buffer, maxPacket, skipped, func(batch []Message) {
		require.LessOrEqual(t, len(batch), maxBatch)
		for _, m := range batch {
			m.buffer = nil
			messages = append(messages, m)
		}
	})
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			return others[1:], messages, err
		}
		others = append(others, p)
	}
}

// TestPublishesAreReadPastPaho: each arrives once, in order, and all other packets pass unchanged, however the stream is divided into reads. A
// message that is too large has no payload.
func TestPublishesAreReadPastPaho(t *testing.T) {
	const most = 300
	seed := uint64(time.Now().UnixNano()) // a seed
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		var in bytes.Buffer
		var over, reported []Oversized
		var want []Message
		pongs := 0
		for n := range rnd.IntN(150) {
			m := Message{Topic: strings.Repeat("t", 1+rnd.IntN(40)), QoS: byte(rnd.IntN(3)), Payload: bytes.Repeat([]byte{byte(n)}, rnd.IntN(2*most))}
			if m.QoS > 0 {
				m.id = uint16(n + 1)
			}
			raw := publishOf(m.Topic, m.QoS, m.id, len(m.Payload), byte(n))
			if m.Retained = rnd.IntN(9) == 0; m.Retained {
				raw[0] |= 1
			}
			length, k := binary.Uvarint(raw[1:5])
			require.Len(t, raw, int(length)+1+k)
			if int(length) > most {
				over = append(over, Oversized{m.Topic, int(length), m.QoS, m.id})
				m.Payload, m.Oversized = nil, int(length)
			}
			want = append(want, m)
			in.Write(raw)
			if rnd.IntN(3) == 0 {
				in.Write([]byte{pingResponse, 0})
				pongs++
			}
		}
		var r io.Reader = &in
		switch rnd.IntN(3) {
		case 0:
			r = iotest.OneByteReader(r)
		case 1:
			r = iotest.HalfReader(r)
		}
		others, got, err := readAll(t, r, most, func(o Oversized) { reported = append(reported, o) })
		require.ErrorIs(t, err, io.EOF)
		require.Len(t, others, pongs)
		require.Equal(t, want, got)
		require.Equal(t, over, reported)
	}
}

// A read with room for more than the rest of a packet takes none of the PUBLISH behind it.
func TestAReadEndsWithItsPacket(t *testing.T) {
	raw := slices.Concat(connack, publishOf("t", 1, 7, 3, 'x'), []byte{pingResponse, 0})
	var got []Message
	c := newInbound(stream{Reader: bytes.NewReader(raw)}, 64, 0, nil, func(batch []Message) {
		require.Len(t, batch, 1)
		require.Equal(t, "xxx", string(batch[0].Payload))
		got = batch
	})
	read, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, slices.Concat(connack, []byte{pingResponse, 0}), read)
	require.Equal(t, make([]Message, 1), got, "what was passed on is not kept")

	c = newInbound(stream{Reader: bytes.NewReader(raw)}, 64, 0, nil, func([]Message) {})
	read = nil
	for one := make([]byte, 1); ; { // nor more than there is room for
		n, err := c.Read(one)
		if err != nil {
			break
		}
		read = append(read, one[:n]...)
	}
	require.Equal(t, slices.Concat(connack, []byte{pingResponse, 0}), read)
}

// endless returns a header and then one byte value without end.
type endless struct {
	head []byte
	left int
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.head) > 0 {
		n := copy(p, e.head)
		e.head = e.head[n:]
		return n, nil
	}
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	clear(p[:n])
	e.left -= n
	return n, nil
}

func TestTheLargestPublishOfMQTTCostsNoMemory(t *testing.T) {
	const largest = 1<<28 - 1
	head := append([]byte{0x32, 0xff, 0xff, 0xff, 0x7f}, "\x00\x03a/b\x12\x34"...)
	var over Oversized
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, got, err := readAll(t, &endless{head, largest - 7}, 1<<20, func(o Oversized) { over = o })
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, io.EOF)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
	require.Equal(t, Oversized{"a/b", largest, 1, 0x1234}, over)
	require.Equal(t, []Message{{Topic: "a/b", QoS: 1, id: 0x1234, Oversized: largest}}, got)
}

func TestWhatIsNoMQTTEndsTheConnection(t *testing.T) {
	for _, in := range []string{
		"\x30\xff\xff\xff\xff\x01",              // a length of five bytes
		"\x36\xff\xff\xff\x7f\x00\x01a\x00\x01", // QoS 3
		"\x32\x80\x80\x04\xff\xff",              // a topic longer than what is left with the packet id
		"\x90\xff\xff\xff\x7f",                  // a SUBACK of 256 MB
	} {
		_, got, err := readAll(t, strings.NewReader(in+strings.Repeat("x", 1<<17)), 100, nil)
		require.ErrorContains(t, err, "MQTT packet", "% x", in)
		require.Empty(t, got)
	}
	c := newInbound(stream{Reader: bytes.NewReader(publishOf("t", 0, 0, 1, 'x'))}, 64, 100, nil, nil)
	_, err := c.Read(make([]byte, 1))
	require.ErrorContains(t, err, "before CONNACK")
	for in, want := range map[string]error{ // the connection ends within them
		"\x30\x03\x00": io.ErrUnexpectedEOF, "\x32\x05\x00\x01a\x00": io.ErrUnexpectedEOF, // the heads
		"\x30\x05\x00\x01ax": io.EOF, "\x30\xff\x01\x00\x01ax": io.EOF, // the payloads
	} {
		_, got, err := readAll(t, strings.NewReader(in), 100, nil)
		require.ErrorIs(t, err, want, "% x", in)
		require.Empty(t, got)
	}
	for _, in := range []string{"\x30\x00", "\x32\x01\x00", "\x32\x03\x00\x00\x00"} { // shorter than its topic's length and its id; nothing follows that
		_, _, err := readAll(t, strings.NewReader(in), 100, nil)
		require.ErrorContains(t, err, "MQTT packet", "% x", in)
	}
}

// The smallest PUBLISH has neither topic nor payload.
func TestTheSmallestPublish(t *testing.T) {
	_, got, err := readAll(t, strings.NewReader("\x30\x02\x00\x00"), 100, nil)
	require.ErrorIs(t, err, io.EOF)
	require.Len(t, got, 1)
	require.Empty(t, got[0].Topic)
}

func TestTheReportedTopicIsBounded(t *testing.T) {
	var over Oversized
	_, got, err := readAll(t, bytes.NewReader(publishOf(strings.Repeat("t", 65535), 1, 7, 100, 'x')), 100, func(o Oversized) { over = o })
	require.ErrorIs(t, err, io.EOF)
	require.Len(t, got[0].Topic, 65535)
	require.Len(t, over.Topic, maxTopic)
}

// The number of remembered topics is bounded, too.
func TestTopicsAreRememberedWithinABound(t *testing.T) {
	c := newInbound(nil, 64, 0, nil, nil)
	for i := range 3 * maxTopics {
		c.topic(binary.BigEndian.AppendUint32(nil, uint32(i)))
		require.Len(t, c.topics, i%maxTopics+1)
	}
	c.topic(bytes.Repeat([]byte("x"), maxTopic+1))
	require.NotContains(t, c.topics, strings.Repeat("x", maxTopic+1))
}

// TestALongPacketAnswersPings: the broker's own answer is behind the bytes of the packet, and without an answer paho would cut the connection in the
// middle and receive the same message again.
func TestALongPacketAnswersPings(t *testing.T) {
	for name, most := range map[string]int{"skipped": 100, "kept": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				go func() {
					_, _ = there.Write(connack)
					raw := publishOf("t", 1, 7, 64<<10, 'x')
					for len(raw) > 0 {
						n := min(len(raw), 4<<10)
						_, _ = there.Write(raw[:n])
						raw = raw[n:]
						time.Sleep(10 * time.Second)
					}
					_ = there.Close()
				}()
				got := 0
				c := newInbound(here, 16, most, nil, func(batch []Message) { got += len(batch) })
				pongs := 0
				for begun := time.Now(); ; begun = time.Now() {
					cp, err := packets.ReadPacket(c)
					require.LessOrEqual(t, time.Since(begun), 20*time.Second)
					if err != nil {
						break
					}
					if _, ok := cp.(*packets.PingrespPacket); ok {
						pongs++
					}
				}
				require.Greater(t, pongs, 10)
				require.Equal(t, 1, got)
			})
		})
	}
}

// While a handler has not returned, paho's pings are answered, one more batch but no further large payload is read, and the end of the connection is
// not reported.
func TestABusyHandlerKeepsTheConnection(t *testing.T) {
	for name, size := range map[string]int{"large": largeFrom, "small": 30} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const count = 5 * maxBatch
				in := &counter{Reader: io.MultiReader(bytes.NewReader(connack), bytes.NewReader(bytes.Repeat(publishOf("t", 1, 7, size, 'x'), count)))}
				busy, got := make(chan struct{}), 0
				c := newInbound(stream{Reader: in}, 1<<10, 1<<20, nil, func(batch []Message) {
					<-busy
					got += len(batch)
				})
				_, err := packets.ReadPacket(c)
				require.NoError(t, err)
				for range 3 {
					cp, err := packets.ReadPacket(c)
					require.NoError(t, err)
					require.IsType(t, &packets.PingrespPacket{}, cp)
				}
				require.Less(t, in.n, largeFrom+4<<10, "no second large payload")
				require.Less(t, in.n, size*2*maxBatch+largeFrom)
				require.Zero(t, got)
				close(busy)
				_, err = packets.ReadPacket(c)
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, count, got, "all that was read was handled before the end was reported")
				_, err = c.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.EOF)
			})
		})
	}
}

// TestTheEndWithinAPacketForPahoWaitsForTheHandler: the goroutine of the handler ends there, too.
func TestTheEndWithinAPacketForPahoWaitsForTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails where a goroutine is left
		in := io.MultiReader(bytes.NewReader(connack), bytes.NewReader(publishOf("t", 1, 7, 30, 'x')), strings.NewReader("\x90\x03\x00"))
		got := 0
		c := newInbound(stream{Reader: in}, 64, 1<<10, nil, func(batch []Message) {
			time.Sleep(time.Minute)
			got += len(batch)
		})
		for {
			if _, err := packets.ReadPacket(c); err != nil {
				break
			}
		}
		require.Equal(t, 1, got)
	})
}

// TestASlowHandlerKeepsTheConnection: it returns each time before Read would stop waiting for it, but the broker's answer to a ping is behind very
// many batches.
func TestASlowHandlerKeepsTheConnection(t *testing.T) {
	for name, size := range map[string]int{"large": largeFrom, "small": 30} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const count = 4 * maxBatch
				in := io.MultiReader(bytes.NewReader(connack), bytes.NewReader(bytes.Repeat(publishOf("t", 0, 0, size, 'x'), count)))
				got := 0
				c := newInbound(stream{Reader: in}, 64<<10, 1<<20, nil, func(batch []Message) {
					time.Sleep(pongEvery / 2)
					got += len(batch)
				})
				for begun := time.Now(); ; begun = time.Now() {
					_, err := packets.ReadPacket(c)
					require.LessOrEqual(t, time.Since(begun), 2*pongEvery)
					if err != nil {
						break
					}
				}
				require.Equal(t, count, got)
			})
		})
	}
}

type counter struct {
	io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// FuzzInbound: no bytes make it panic, and none make it allocate more than the limit.
func FuzzInbound(f *testing.F) {
	f.Add([]byte("\x32\x80\x80\x04\xff\xff"), 100)
	f.Add(publishOf("a/b", 1, 7, 300, 'x'), 100)
	f.Add(append(publishOf("a/b", 0, 0, 3, 'x'), pingResponse, 0), 2)
	f.Fuzz(func(t *testing.T, in []byte, most int) {
		most = max(most%1000, 1)
		reports, marked, total := 0, 0, 0
		c := newInbound(stream{Reader: io.MultiReader(bytes.NewReader(connack), bytes.NewReader(in))}, 64, most, func(Oversized) { reports++ },
			func(batch []Message) {
				for _, m := range batch {
					require.LessOrEqual(t, len(m.Topic)+len(m.Payload), max(most, 1<<16))
					total += len(m.Topic) + len(m.Payload)
					if m.Oversized > 0 {
						marked++
					}
				}
			})
		others, err := io.ReadAll(c)
		if err == nil {
			err = io.EOF
		}
		require.Error(t, err)
		require.LessOrEqual(t, len(others)+total, len(connack)+len(in))
		require.Equal(t, reports, marked)
	})
}

// BenchmarkReceive measures a session that reads messages of 600 bytes, on a TCP connection.
func BenchmarkReceive(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if _, err := packets.ReadPacket(c); err != nil {
			return
		}
		_, _ = c.Write(connack)
		group := bytes.Repeat(publishOf("edgex/events/device/device-light/profile/device-1/source", 1, 7, 600, 'x'), 16)
		for n := 0; n < b.N; n += 16 {
			if _, err := c.Write(group); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, c)
	}()
	at, err := ParseAddress("tcp://" + l.Addr().String())
	require.NoError(b, err)
	got, all := 0, make(chan struct{})
	b.ReportAllocs()
	s, err := Dial(b.Context(), Options{
		Brokers: []Address{at}, ClientID: "bench", Clean: true, KeepAlive: time.Minute, PingTimeout: time.Minute, ConnectTimeout: 10 * time.Second,
		Stall: time.Minute, ReadBuffer: 64 << 10, MaxPacket: 1 << 20, ManualAck: true, Frees: true, Receive: func(_ *Session, m Message) {
			m.Free()
			if got++; got == (b.N+15)/16*16 {
				close(all)
			}
		},
	})
	require.NoError(b, err)
	<-all
	b.StopTimer()
	s.End(ErrStopped, 0)
}

// A packet is buffered once its header is complete and all of it has arrived.
func TestWhatIsBuffered(t *testing.T) {
	for _, c := range []struct {
		what  string
		bytes []byte
		want  bool
	}{
		{"nothing", nil, false},
		{"a type", []byte{0x30}, false},
		{"a length without its end", []byte{0x30, 0x80}, false},
		{"a length that goes on", []byte{0x30, 0x80, 0x01}, false},
		{"a packet without a rest", []byte{0xD0, 0}, true},
		{"all but a byte", []byte{0x30, 3, 1, 2}, false},
		{"all", []byte{0x30, 3, 1, 2, 3}, true},
		{"all, and the next one's type", []byte{0x30, 3, 1, 2, 3, 0x30}, true},
		{"128 bytes less one", append([]byte{0x30, 0x80, 0x01}, make([]byte, 127)...), false},
		{"128 bytes", append([]byte{0x30, 0x80, 0x01}, make([]byte, 128)...), true},
	} {
		in := newInbound(stream{Reader: bytes.NewReader(c.bytes)}, 512, 0, nil, nil)
		_, _ = in.r.Peek(len(c.bytes))
		require.Equal(t, c.want, in.buffered(), c.what)
	}
}
