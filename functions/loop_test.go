package functions

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// A device that has a resource with the name of a result has values of its own there, and is not bounded, nor is one that repeats a value.
func TestADeviceIsNotTakenForARelay(t *testing.T) {
	now := time.Now()
	for name, event := range map[string]func(n uint64) (value uint64, own bool){
		"now and then a value of its own": func(n uint64) (uint64, bool) { return n, n%relayStreak == 0 },
		"one value, published before":     func(uint64) (uint64, bool) { return 7, false },
	} {
		var l loops
		for n := range uint64(1000) {
			value, own := event(n)
			skip, found := l.bounded(1, value, own, name, now)
			require.False(t, skip || found, "%s: %d", name, n)
		}
	}
	var l loops
	skipped := 0
	for n := range uint64(100) {
		if skip, _ := l.bounded(1, n, false, "relay", now.Add(time.Duration(n)*relayEvery/10)); skip {
			skipped++
		}
	}
	require.Equal(t, 83, skipped, "of those after the first eight, nine of ten")
	require.Equal(t, "relay", l.names())
	for n := range uint64(2 * maxRelays) {
		l.bounded(n, n, false, "x", now)
	}
	require.LessOrEqual(t, len(l.devices), maxRelays)
}

// Readings without a result's name cost no look at their values once the event is known not to be an echo.
func TestAnEventOfADeviceIsNotCompared(t *testing.T) {
	k := newKinship("n", "app-offload", 3, testLog{t})
	k.remember([]uint64{1})
	ev := &task.Event{Readings: []task.Reading{{Resource: "a", Value: []byte("1")}, {Resource: "b", Value: []byte("2")}}}
	require.Equal(t, echo{}, k.compare(ev))
}
