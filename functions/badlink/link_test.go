package badlink

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
)

// linked opens a link to an upstream that serves each connection.
func linked(t *testing.T, serve func(net.Conn)) *Link {
	t.Helper()
	far, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := far.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	l, err := New(far.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() {
		l.Close()
		_ = far.Close()
		running.Wait()
	})
	return l
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

func dial(t *testing.T, l *Link) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr)
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ping is a packet of MQTT, as a link frames packets on the way back.
var ping = []byte{0xc0, 0}

func echoes(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := c.Write(ping)
	require.NoError(t, err)
	got := make([]byte, len(ping))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, ping, got)
}

func TestWhatAStalledLinkHoldsArrivesLater(t *testing.T) {
	for _, stalled := range Troubles["stall"] {
		l := linked(t, echo)
		c := dial(t, l)
		echoes(t, c)
		require.NoError(t, l.Harm(stalled))
		_, err := c.Write(ping)
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err = c.Read(make([]byte, 1))
		var timeout net.Error
		require.True(t, errors.As(err, &timeout) && timeout.Timeout(), "%v", err)
		require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
		require.NoError(t, l.Heal())
		got := make([]byte, len(ping))
		_, err = io.ReadFull(c, got)
		require.NoError(t, err)
	}
}

func TestEachTroubleDoesWhatItSays(t *testing.T) {
	l := linked(t, echo)
	for _, reset := range Troubles["reset"][:2] {
		c := dial(t, l)
		echoes(t, c)
		require.NoError(t, l.Harm(reset))
		_, err := c.Write(ping)
		require.NoError(t, err)
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.NoError(t, l.Heal())
	}
	c := dial(t, l)
	require.NoError(t, l.Harm(Troubles["reset"][3]))
	_, err := c.Write(bytes.Repeat(ping, 1000))
	require.NoError(t, err)
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Len(t, got, 200)

	require.NoError(t, l.Harm(Trouble{Up: Flow{Rate: 1e6}}))
	c = dial(t, l)
	start := time.Now()
	_, err = c.Write(bytes.Repeat(ping, 50_000))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 100_000))
	require.NoError(t, err)
	require.Greater(t, time.Since(start), 90*time.Millisecond, "100 kB at 1 MB/s")

	require.NoError(t, l.Harm(Troubles["cut"][0]))
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	_, err = net.Dial("tcp", l.Addr)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, l.Heal())
	echoes(t, dial(t, l))
}

// With any changes at any moments, broken connections among them, the link recovers.
func TestALinkBearsAnyChangeAtAnyMoment(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	l := linked(t, func(c net.Conn) {
		_, _ = io.CopyN(c, c, rand.Int64N(200_000)) // and leaves, whatever is on its way
	})
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if c, err := net.Dial("tcp", l.Addr); err == nil {
					clients.Go(func() { _, _ = io.Copy(io.Discard, c) })
					_, _ = c.Write(bytes.Repeat(ping, rand.IntN(100_000)))
					_ = c.Close()
				}
			}
		})
	}
	var all []Trouble
	for _, some := range Troubles {
		all = append(all, some...)
	}
	random := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		require.NoError(t, l.Harm(all[random.IntN(len(all))]))
		time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond) // a moment of any length
	}
	require.NoError(t, l.Heal())
	close(stop)
	clients.Wait()
}

// Packets are removed whole, in whatever pieces they arrive.
func TestSwallowTakesPacketsOut(t *testing.T) {
	puback := []byte{0x40, 2, 0, 1}
	publish := append([]byte{0x32, 0x80, 0x02}, make([]byte, 256)...)
	stream := bytes.Join([][]byte{puback, publish, puback, publish}, nil)
	for _, c := range []struct {
		packet int
		want   []byte
	}{
		{0, stream},
		{Puback, append(bytes.Clone(publish), publish...)},
		{Publish, append(bytes.Clone(puback), puback...)},
	} {
		for _, in := range []io.Reader{bytes.NewReader(stream), iotest.OneByteReader(bytes.NewReader(stream)), iotest.HalfReader(bytes.NewReader(stream))} {
			f := &framer{}
			var out []byte
			for piece := make([]byte, 100); ; {
				n, err := in.Read(piece)
				passed, _ := f.pass(piece[:n], &Flow{Swallow: c.packet})
				out = append(out, passed...)
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
			}
			require.Equal(t, c.want, out)
		}
	}
}

// A connection ends at a refused packet as soon as its header shows the size; earlier packets have passed.
func TestRefusedPacketsEndTheConnection(t *testing.T) {
	publish := append([]byte{0x32, 0x80, 0x02}, make([]byte, 256)...)
	for _, c := range []struct {
		name   string
		above  int
		stream [][]byte
		want   [][]byte
		ends   bool
	}{
		{"every PUBLISH", 0, [][]byte{ping, publish}, [][]byte{ping}, true},
		{"a large one", 258, [][]byte{ping, publish}, [][]byte{ping}, true},
		{"none that is as large", 259, [][]byte{ping, publish, ping}, [][]byte{ping, publish, ping}, false},
		{"by the header alone", 100, [][]byte{ping, publish[:3]}, [][]byte{ping}, true},
		{"no other packet", 0, [][]byte{ping, ping}, [][]byte{ping, ping}, false},
	} {
		trouble := Closing(c.above)
		out, ends := (&framer{}).pass(bytes.Join(c.stream, nil), &trouble.Up)
		require.Equal(t, bytes.Join(c.want, nil), out, c.name)
		require.Equal(t, c.ends, ends, c.name)
	}
}

// The link applies its trouble to existing connections.
func TestLinkSwallowsAndHeals(t *testing.T) {
	far, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer far.Close()
	l, err := New(far.Addr().String())
	require.NoError(t, err)
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr)
	require.NoError(t, err)
	defer near.Close()
	broker, err := far.Accept()
	require.NoError(t, err)
	defer broker.Close()

	puback, pong := []byte{0x40, 2, 0, 1}, []byte{0xd0, 0}
	say := func(packets ...[]byte) {
		t.Helper()
		for _, p := range packets {
			_, err := broker.Write(p)
			require.NoError(t, err)
		}
	}
	receive := func(want []byte) {
		t.Helper()
		require.NoError(t, near.SetReadDeadline(time.Now().Add(20*time.Second)))
		got := make([]byte, len(want))
		_, err := io.ReadFull(near, got)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	say(puback)
	receive(puback)
	require.NoError(t, l.Harm(Troubles["puback"][0]))
	say(puback, pong)
	receive(pong)
	require.NoError(t, l.Heal())
	say(puback)
	receive(puback)
}
