package say

import (
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOnce(t *testing.T) {
	var o Once
	require.True(t, o.New("connect", "refused"))
	require.False(t, o.New("connect", "refused"), "the same again")
	require.True(t, o.New("subscribe", "refused"), "another key")
	require.True(t, o.Changed("connect", errors.New("timeout")), "another text")
	require.False(t, o.New("connect", ""), "over")
	require.False(t, o.Known("connect"))
	require.True(t, o.New("connect", "timeout"), "and begun again")
	o.Clear()
	require.True(t, o.New("subscribe", "refused"))
	require.False(t, o.Changed("subscribe", nil))
}

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewEvery(time.Minute)
		due := func(key string) int { n, _ := e.Due(key); return n }
		require.Equal(t, 1, due("a"))
		require.Equal(t, 1, due("b"))
		for range 5 {
			require.Zero(t, due("a"))
		}
		time.Sleep(time.Minute)
		require.Equal(t, 6, due("a"), "the suppressed ones are counted")
		require.Zero(t, due("a"))
	})
}

// A key may come from outside, so keys are bounded.
func TestKeysAreBounded(t *testing.T) {
	var o Once
	e := NewEvery(time.Hour)
	for i := range maxKeys {
		require.True(t, o.New(strconv.Itoa(i), "x"))
		_, due := e.Due(strconv.Itoa(i))
		require.True(t, due)
	}
	require.False(t, o.New("one more", "x"))
	_, due := e.Due("one more")
	require.False(t, due)
	require.True(t, o.New("7", "y"), "known keys continue")
}

// A flood of keys from outside must not silence later ones.
func TestAFloodOfKeysSilencesAnIntervalOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewEvery(time.Minute)
		for i := range 2 * maxKeys {
			e.Due(strconv.Itoa(i))
		}
		time.Sleep(time.Minute)
		n, due := e.Due("the broker is away")
		require.True(t, due)
		require.Equal(t, 1, n)
		require.LessOrEqual(t, len(e.keys), maxKeys)
	})
}

func TestOnceKeepsWhatIsStillThere(t *testing.T) {
	var o Once
	o.Keep(map[string]bool{"a": true})
	for _, key := range []string{"a", "b", "c"} {
		o.New(key, "x")
	}
	o.Keep(map[string]bool{"a": true, "b": false})
	require.Equal(t, []bool{true, false, false}, []bool{o.Known("a"), o.Known("b"), o.Known("c")})
	small := Once{Max: 1}
	require.True(t, small.New("a", "x"))
	require.False(t, small.New("b", "x"))
	require.Equal(t, "1m0s", NewEvery(time.Minute).String())
}
