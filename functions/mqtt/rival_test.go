package mqtt

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRival(t *testing.T) {
	eof := fmt.Errorf("reading: %w", io.EOF)
	type loss struct {
		lived time.Duration
		err   error
	}
	for _, row := range []struct {
		name string
		lost []loss
		want bool
	}{
		{"a broker that restarts", []loss{{time.Hour, eof}, {time.Second, eof}, {time.Second, eof}}, false},
		{"a fight", []loss{{time.Hour, eof}, {time.Second, eof}, {time.Second, syscall.ECONNRESET}, {59 * time.Second, eof}}, true},
		{"a bad line", []loss{{1, errors.New("pingresp not received")}, {1, errors.New("timeout")}, {1, errors.New("timeout")}, {1, eof}}, false},
		{"a long life between", []loss{{1, eof}, {1, eof}, {time.Minute, eof}, {1, eof}, {1, eof}}, false},
	} {
		var r Rival
		r.Doubt()
		got := false
		for _, l := range row.lost {
			got = r.Lost(l.lived, l.err)
		}
		require.Equal(t, row.want, got, row.name)
		require.Equal(t, row.want, r.Suspected(0), row.name)
		require.False(t, r.Suspected(soon), "a connection that lives is not fought over")
	}
}

func TestADoubtTakesAClosingBack(t *testing.T) {
	r := Rival{After: 2}
	for range 10 {
		require.False(t, r.Lost(1, io.EOF))
		r.Doubt()
	}
	require.False(t, r.Lost(1, io.EOF))
	require.True(t, r.Lost(1, io.EOF))
	none := Rival{After: 1}
	none.Doubt()
	require.True(t, none.Lost(1, io.EOF), "there was no closing to take back")
}
