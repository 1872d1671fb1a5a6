package mqtt

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

// stream is a connection of which only the reading end matters.
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

// TestAnOversizedPublishIsReplacedInItsPlace: everything else passes as it is, in order, however the stream is cut into reads.
func TestAnOversizedPublishIsReplacedInItsPlace(t *testing.T) {
	const most = 300
	seed := uint64(time.Now().UnixNano()) // a seed
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		var in bytes.Buffer
		var want []Oversized
		type sent struct {
			topic string
			qos   byte
			id    uint16
			size  int
			large bool
		}
		var all []sent
		for n := range rnd.IntN(30) {
			s := sent{topic: strings.Repeat("t", 1+rnd.IntN(40)), qos: byte(rnd.IntN(3)), size: rnd.IntN(600)}
			if s.qos > 0 {
				s.id = uint16(n + 1)
			}
			raw := publishOf(s.topic, s.qos, s.id, s.size, byte(n))
			length, k := binary.Uvarint(raw[1:5])
			if int(length) != len(raw)-1-k {
				t.Fatal("the test cannot read its own packet")
			}
			if s.large = int(length) > most; s.large {
				want = append(want, Oversized{s.topic, int(length), s.qos, s.id})
			}
			all = append(all, s)
			in.Write(raw)
			if rnd.IntN(3) == 0 {
				in.Write([]byte{pingResponse, 0})
			}
		}
		var got []Oversized
		var r io.Reader = &in
		switch rnd.IntN(3) {
		case 0:
			r = iotest.OneByteReader(r)
		case 1:
			r = iotest.HalfReader(r)
		}
		conn := Limit(stream{Reader: r}, most, func(o Oversized) { got = append(got, o) })
		for i := 0; i < len(all); {
			cp, err := packets.ReadPacket(conn)
			require.NoError(t, err)
			p, ok := cp.(*packets.PublishPacket)
			if !ok {
				continue
			}
			s := all[i]
			require.Equal(t, []any{s.topic, s.qos, s.id}, []any{p.TopicName, p.Qos, p.MessageID}, "packet %d", i)
			_, skipped := Skipped(p.Payload)
			require.Equal(t, s.large, skipped, "packet %d", i)
			if !s.large {
				require.Equal(t, bytes.Repeat([]byte{byte(i)}, s.size), append([]byte{}, p.Payload...))
			}
			i++
		}
		require.Equal(t, want, got)
	}
}

// endless gives a header and then one byte value without an end.
type endless struct{ head []byte }

func (e *endless) Read(p []byte) (int, error) {
	if len(e.head) > 0 {
		n := copy(p, e.head)
		e.head = e.head[n:]
		return n, nil
	}
	clear(p)
	return len(p), nil
}

// TestTheLargestPublishOfMQTTCostsNoMemory: 256 MB, of which paho would make a buffer of 256 MB before it reads the first byte.
func TestTheLargestPublishOfMQTTCostsNoMemory(t *testing.T) {
	head := append([]byte{0x32, 0xff, 0xff, 0xff, 0x7f}, "\x00\x03a/b\x12\x34"...)
	var over Oversized
	conn := Limit(stream{Reader: &endless{head}}, 1<<20, func(o Oversized) { over = o })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cp, err := packets.ReadPacket(conn)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
	require.Equal(t, Oversized{"a/b", 1<<28 - 1, 1, 0x1234}, over)
	size, ok := Skipped(cp.(*packets.PublishPacket).Payload)
	require.True(t, ok)
	require.Equal(t, 1<<28-1, size)
}

func TestLimitEndsWhatIsNoMQTT(t *testing.T) {
	for _, in := range []string{
		"\x30\xff\xff\xff\xff\x01",              // a length of five bytes
		"\x36\xff\xff\xff\x7f\x00\x01a\x00\x01", // QoS 3
		"\x32\x80\x80\x04\xff\xff",              // a topic longer than what is left with the packet id
		"\x90\xff\xff\xff\x7f",                  // a SUBACK of 256 MB
	} {
		conn := Limit(stream{Reader: strings.NewReader(in + strings.Repeat("x", 1<<17))}, 100, nil)
		_, err := io.ReadAll(conn)
		require.ErrorContains(t, err, "MQTT packet", "% x", in)
	}
}

func TestTheReportedTopicIsBounded(t *testing.T) {
	var over Oversized
	raw := publishOf(strings.Repeat("t", 65535), 1, 7, 100, 'x')
	conn := Limit(stream{Reader: bytes.NewReader(raw)}, 100, func(o Oversized) { over = o })
	cp, err := packets.ReadPacket(conn)
	require.NoError(t, err)
	require.Len(t, cp.(*packets.PublishPacket).TopicName, 65535)
	require.Len(t, over.Topic, maxTopic)
}

// TestALongSkipAnswersPings: the broker's own answer is behind the skipped bytes, and without one paho would cut the connection in
// the middle and get the same message again.
func TestALongSkipAnswersPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		sent := make(chan struct{})
		defer func() { <-sent }()
		go func() {
			defer close(sent)
			raw := publishOf("t", 1, 7, 64<<10, 'x')
			for len(raw) > 0 {
				n := min(len(raw), 4<<10)
				_, _ = there.Write(raw[:n])
				raw = raw[n:]
				time.Sleep(10 * time.Second)
			}
		}()
		conn := Limit(here, 100, nil)
		for pongs := 0; ; pongs++ {
			begun := time.Now()
			cp, err := packets.ReadPacket(conn)
			require.NoError(t, err)
			require.LessOrEqual(t, time.Since(begun), 20*time.Second)
			if p, ok := cp.(*packets.PublishPacket); ok {
				_, ok := Skipped(p.Payload)
				require.True(t, ok)
				require.Greater(t, pongs, 10)
				return
			}
			require.IsType(t, &packets.PingrespPacket{}, cp)
		}
	})
}

func TestSkippedKnowsOnlyItsOwnMark(t *testing.T) {
	for _, payload := range [][]byte{nil, {}, make([]byte, skippedSize), []byte("x"), append(appendMark(nil, 5), 0)} {
		_, ok := Skipped(payload)
		require.False(t, ok, "% x", payload)
	}
}

// FuzzLimit: no bytes make it panic, and none make paho allocate more than the limit.
func FuzzLimit(f *testing.F) {
	f.Add([]byte("\x32\x80\x80\x04\xff\xff"), 100)
	f.Add(publishOf("a/b", 1, 7, 300, 'x'), 100)
	f.Add(append(publishOf("a/b", 0, 0, 3, 'x'), pingResponse, 0), 2)
	f.Fuzz(func(t *testing.T, in []byte, most int) {
		most = max(most%1000, 0)
		reports := 0
		conn := Limit(stream{Reader: bytes.NewReader(in)}, most, func(Oversized) { reports++ })
		marks := 0
		for {
			var h packets.FixedHeader
			var b [1]byte
			if _, err := io.ReadFull(conn, b[:]); err != nil {
				break
			}
			length, shift := 0, 0
			for {
				var l [1]byte
				if _, err := io.ReadFull(conn, l[:]); err != nil {
					t.Fatal("half a header")
				}
				length |= int(l[0]&0x7f) << shift
				if shift += 7; l[0] < 0x80 {
					break
				}
			}
			h.MessageType = b[0] >> 4
			body := make([]byte, min(length, 1<<17))
			n, err := io.ReadFull(conn, body)
			if _, ok := Skipped(body[max(n-skippedSize, 0):n]); ok {
				marks++
			} else {
				require.False(t, h.MessageType == packets.Publish && length > most, "% x", in)
			}
			require.LessOrEqual(t, length, max(most, 1<<16+skippedSize+4))
			if err != nil {
				break
			}
		}
		require.Equal(t, reports, marks)
	})
}
