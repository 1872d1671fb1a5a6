package stack

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheWantedAddressIsTakenIfItIsFree(t *testing.T) {
	wanted, err := FreeAddr()
	require.NoError(t, err)
	got, err := freeOr(wanted)
	require.NoError(t, err)
	require.Equal(t, wanted, got)

	l, err := net.Listen("tcp", wanted)
	require.NoError(t, err)
	defer l.Close()
	got, err = freeOr(wanted)
	require.NoError(t, err)
	require.NotEqual(t, wanted, got)
}

// ran is a shell script that has ended, with what it wrote.
func ran(t *testing.T, script string) (*Process, string) {
	t.Helper()
	var log bytes.Buffer
	p, err := StartProgram("script", &log, []string{"WORD=env"}, "sh", "-c", script)
	require.NoError(t, err)
	<-p.Done()
	return p, log.String()
}

// The error of a program is its exit status with the errors it logged, each once, or else with its last lines.
func TestTheErrorOfAProgramIsItsCause(t *testing.T) {
	p, log := ran(t, "echo $WORD; echo to stderr >&2")
	require.NoError(t, p.Err())
	require.Equal(t, "env\nto stderr\n", log)
	require.False(t, p.Kill(), "it has exited")
	p, log = ran(t, "echo start; echo level=ERROR a; echo level=INFO b; echo level=ERROR a; echo level=ERROR c; exit 3")
	require.EqualError(t, p.Err(), "script ended with exit status 3:\nlevel=ERROR a\nlevel=ERROR c")
	require.Equal(t, 5, strings.Count(log, "\n"))
	p, log = ran(t, "seq 1 30; exit 1")
	require.Equal(t, 30, strings.Count(log, "\n"))
	require.True(t, strings.HasPrefix(p.Err().Error(), "script ended with exit status 1:\n11\n12\n"), p.Err())
	require.True(t, strings.HasSuffix(p.Err().Error(), "\n30"), p.Err())
	_, err := StartProgram("script", io.Discard, nil, "/nonexistent/script")
	require.ErrorContains(t, err, "starting /nonexistent/script")
}

// A program that ignores SIGTERM is killed after the grace.
func TestAProgramIsStopped(t *testing.T) {
	for script, want := range map[string]string{
		"trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done": "",
		"trap '' TERM; echo up; while :; do sleep 0.01; done":       "script did not stop within 200ms and was killed; its last lines:\nup",
	} {
		up, in := io.Pipe()
		p, err := StartProgram("script", in, nil, "sh", "-c", script)
		require.NoError(t, err)
		_, err = io.ReadFull(up, make([]byte, 3)) // once it has its trap
		require.NoError(t, err)
		grace := 10 * time.Second
		if want != "" {
			grace = 200 * time.Millisecond
		}
		if err := p.Stop(grace); want == "" {
			require.NoError(t, err)
		} else {
			require.EqualError(t, err, want)
		}
		require.False(t, p.Abort(), "it has exited")
	}
}

// A broker delivers to its subscribers until it is stopped.
func TestTheBrokerDelivers(t *testing.T) {
	b, err := StartBroker()
	require.NoError(t, err)
	got := make(chan string, 1)
	require.NoError(t, b.Subscribe("a/#", func(topic string, payload []byte) { got <- topic + " " + string(payload) }))
	require.NoError(t, b.Publish("a/b", []byte("c")))
	require.Equal(t, "a/b c", <-got)
	require.Zero(t, b.Dropped())
	require.NoError(t, b.Stop())
	_, err = net.Dial("tcp", b.Addr)
	require.Error(t, err)
}
