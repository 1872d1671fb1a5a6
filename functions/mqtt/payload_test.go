package mqtt

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAPayloadsBufferIsOfItsSize(t *testing.T) {
	for _, n := range []int{0, 1, 511, 512, 513, 1024, 1025, 1 << maxPooled, 1<<maxPooled + 1, 1 << 20} {
		var m Message
		m.allocate(n, true)
		require.Len(t, m.Payload, n)
		require.NotNil(t, m.Payload, "a message without a payload is one that was skipped")
		require.Equal(t, n, cap(m.Payload), "appended bytes must not reach another message")
		require.Equal(t, n <= 1<<maxPooled, m.buffer != nil)
		if m.buffer != nil {
			require.LessOrEqual(t, len(*m.buffer), max(2*n, 1<<minPooled))
		}
		m.Free()
	}
	require.Less(t, testing.AllocsPerRun(100, func() {
		var m Message
		m.allocate(1000, true)
		m.Free()
	}), 1.0, "a freed buffer is used again")
	Message{}.Free()
	var m Message
	m.allocate(100, false)
	require.Equal(t, 100, cap(m.Payload))
	require.Nil(t, m.buffer, "a payload that is not freed is kept, in its exact size")
}
