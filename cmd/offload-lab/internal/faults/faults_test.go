package faults

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
)

// A short run of the real thing; `make faults` and `make soak` are the long ones.
func TestTheSystemSurvivesAFewFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the whole system")
	}
	if _, err := Mosquitto(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	bin := t.TempDir()
	out, err := exec.Command("go", "build", "-o", bin, "app-offload/cmd/app-offload", "app-offload/cmd/offload-cloud").CombinedOutput()
	require.NoError(t, err, string(out))
	cfg := Config{
		Bin: bin, Res: "../../../../res", Dir: t.TempDir(), Seed: uint64(time.Now().UnixNano()), Rounds: 3, CheckEvery: 3,
		Kinds: []string{"kill-edge", "kill-cloud", "cut", "puback"}, Rate: 200, Out: t.Output(),
	}
	t.Logf("seed %d", cfg.Seed)
	report, err := Run(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, 3, report.Rounds)
	require.Zero(t, report.Lost+report.Doubled)
	require.Positive(t, report.Ordered)
	require.GreaterOrEqual(t, report.Stored, report.Accepted)
}

func TestKindsAreChosenByName(t *testing.T) {
	all, err := chosen(nil)
	require.NoError(t, err)
	require.Len(t, all, len(kinds()))
	two, err := chosen([]string{"cut", "cut"})
	require.NoError(t, err)
	require.Len(t, two, 2)
	quick, err := chosen(quickKinds())
	require.NoError(t, err)
	for _, k := range all {
		require.True(t, slices.ContainsFunc(quick, func(q kind) bool { return q.name == k.name }), "%s is left out when it is quick", k.name)
	}
	_, err = chosen([]string{"luck"})
	require.ErrorContains(t, err, `there is no kind "luck"`)
}

// The checks themselves: a harness that sees nothing would find nothing.
func TestWrongsAreSeen(t *testing.T) {
	p := &publisher{seed: 7}
	p.sent.Store(100)
	for _, c := range []struct {
		name string
		rows func(d *database)
		want int // violations
	}{
		{"whole events", func(d *database) { d.take(p.id(1), 0, 1, p.raw(1)); d.take(p.id(2), 0, 1, p.raw(2)) }, 0},
		{"one twice", func(d *database) { d.take(p.id(1), 0, 1, p.raw(1)); d.take(p.id(1), 0, 1, p.raw(1)) }, 1},
		{"one altered", func(d *database) { d.take(p.id(1), 0, 1, p.raw(2)) }, 1},
		{"never published", func(d *database) { d.take(p.id(100), 0, 1, p.raw(100)) }, 1},
		{"of another seed", func(d *database) { d.take((&publisher{seed: 8}).id(1), 0, 1, nil) }, 1},
		{"two counts of chunks", func(d *database) { d.take(p.id(20), 0, 4, nil); d.take(p.id(20), 1, 5, nil) }, 1},
		{"overtaken", func(d *database) { d.take(p.id(6), 0, 1, p.raw(6)); d.take(p.id(1), 0, 1, p.raw(1)); d.overtaken(0) }, 1},
		{"of another device", func(d *database) { d.take(p.id(6), 0, 1, p.raw(6)); d.take(p.id(2), 0, 1, p.raw(2)); d.overtaken(0) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			wrongs := 0
			d := newDatabase("", p, func(string, ...any) { wrongs++ })
			c.rows(d)
			require.Equal(t, c.want, wrongs)
		})
	}
}

func TestMissingEventsAreFound(t *testing.T) {
	p := &publisher{}
	p.sent.Store(10)
	d := newDatabase("", p, t.Errorf)
	d.take(p.id(0), 0, 2, nil) // the other half is missing
	d.take(p.id(1), 0, 1, p.raw(1))
	d.take(p.id(3), 0, 2, nil)
	d.take(p.id(3), 1, 2, nil)
	require.Equal(t, []int{0, 2, 4}, d.missing(5))
	require.Equal(t, 2, d.complete)
}

// Packets are taken out whole, whatever the pieces in which they come.
func TestSwallowTakesPacketsOut(t *testing.T) {
	puback := []byte{0x40, 2, 0, 1}
	publish := append([]byte{0x32, 0x80, 0x02}, make([]byte, 256)...)
	stream := bytes.Join([][]byte{puback, publish, puback, publish}, nil)
	for _, c := range []struct {
		packet int
		want   []byte
	}{
		{0, stream},
		{pubackPacket, append(bytes.Clone(publish), publish...)},
		{publishPacket, append(bytes.Clone(puback), puback...)},
	} {
		for _, in := range []io.Reader{bytes.NewReader(stream), iotest.OneByteReader(bytes.NewReader(stream)), iotest.HalfReader(bytes.NewReader(stream))} {
			f := &framer{}
			var out []byte
			for piece := make([]byte, 100); ; {
				n, err := in.Read(piece)
				out = append(out, f.pass(piece[:n], c.packet)...)
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
			}
			require.Equal(t, c.want, out)
		}
	}
}

// The link does to connections what it says, while they are up.
func TestLinkSwallowsAndHeals(t *testing.T) {
	far, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer far.Close()
	l, err := newLink(far.Addr().String())
	require.NoError(t, err)
	defer l.close()
	near, err := net.Dial("tcp", l.addr)
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
	hear := func(want []byte) {
		t.Helper()
		require.NoError(t, near.SetReadDeadline(time.Now().Add(20*time.Second)))
		got := make([]byte, len(want))
		_, err := io.ReadFull(near, got)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	say(puback)
	hear(puback)
	require.NoError(t, l.harm(troubles["puback"][0]))
	say(puback, pong)
	hear(pong)
	require.NoError(t, l.heal())
	say(puback)
	hear(puback)
}
