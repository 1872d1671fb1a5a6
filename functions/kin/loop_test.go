package kin

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"app-offload/functions/local"
	"app-offload/functions/task"
)

// neighbours are services on one bus: each publishes a result of each reading that it computes on, and records the others'.
type neighbours struct {
	t        *testing.T
	all      []*Kin
	classes  *task.Classes
	results  []dtos.Event // published, and not yet seen by a relay
	computed int
}

func newNeighbours(t *testing.T, n int) *neighbours {
	classes, err := task.NewClasses(nil)
	require.NoError(t, err)
	b := &neighbours{t: t, classes: classes}
	for i := range n {
		b.all = append(b.all, New("n", fmt.Sprint("app-offload-", i), 3, silent{}))
	}
	return b
}

// deliver passes an event to each service, and returns how many computed on it.
func (b *neighbours) deliver(device string, names []string, values []float64) (computed int) {
	for _, k := range b.all {
		ev := &task.Event{ID: uuid.NewString(), Device: device, Encoding: task.JSON}
		for i, name := range names {
			ev.Readings = append(ev.Readings, task.Reading{Resource: name, Type: task.Float64, Value: fmt.Append(nil, values[i])})
		}
		if !k.Admit(ev, b.classes) {
			continue
		}
		computed++
		for i, name := range names {
			b.publish(k, device, name, values[i])
		}
	}
	b.computed += computed
	return computed
}

// publish publishes the result that k makes of a reading, here its value.
func (b *neighbours) publish(k *Kin, device, name string, value float64) {
	published := dtos.NewEvent("P", device, name+"_max")
	require.NoError(b.t, published.AddSimpleReading(name+"_max", "Float64", value))
	require.NoError(b.t, k.Sign(nowhere{}).Publish(local.Result{Event: published, Hop: 1}))
	for _, other := range b.all {
		if other != k {
			ev := &task.Event{
				ID: published.Id, Device: device, Source: name + "_max", Topic: "edgex/events/device/" + k.service + "/P/d/s", Encoding: task.JSON,
				Tags: fmt.Appendf(nil, `{"offloadHop":"1","offloadService":"%s","offloadNode":"n"}`, k.service),
			}
			ev.Readings = []task.Reading{{Resource: name + "_max", Type: task.Float64, Value: fmt.Append(nil, value)}}
			require.False(b.t, other.Admit(ev, b.classes))
		}
	}
	b.results = append(b.results, published)
}

// A relay that strips tags and ids and adds its own reading is fed by the results of that reading. The loop ends, and does not begin again with later
// events of a device.
func TestALoopThroughARelayEnds(t *testing.T) {
	for name, row := range map[string]struct {
		services, times int
		own             func(n int) float64
	}{
		"its reading changes":         {3, 1, func(n int) float64 { return float64(n) + 0.5 }},
		"its reading stands still":    {3, 1, func(int) float64 { return 5 }},
		"its reading comes back":      {3, 1, func(n int) float64 { return float64(n % 3) }},
		"one service":                 {1, 1, func(n int) float64 { return float64(n) }},
		"one service, stands still":   {1, 1, func(int) float64 { return 0 }},
		"relayed twice":               {3, 2, func(n int) float64 { return float64(n) }},
		"relayed twice, stands still": {3, 2, func(int) float64 { return 5 }},
		"many services":               {8, 1, func(n int) float64 { return float64(n % 2) }},
	} {
		t.Run(name, func(t *testing.T) {
			b, n := newNeighbours(t, row.services), 0
			for measured := range 200 {
				b.deliver("d", []string{"R"}, []float64{float64(measured)})
				for len(b.results) > 0 && n < 50000 {
					result := b.results[0]
					b.results = b.results[1:]
					for range row.times {
						n++
						value := 0.0
						_, err := fmt.Sscan(result.Readings[0].Value, &value)
						require.NoError(t, err)
						b.deliver("relay", []string{result.Readings[0].ResourceName, "own"}, []float64{value, row.own(n)})
					}
				}
			}
			require.Less(t, n, 50000, "events of the relay")
			for _, k := range b.all {
				require.Equal(t, "relay", k.loops.names())
				require.Positive(t, k.Skipped()["loop"])
			}
			before := b.computed
			b.deliver("d", []string{"R"}, []float64{-1})
			require.Equal(t, before+row.services, b.computed, "the device is still computed on")
		})
	}
}

// A device that has a resource with the name of a result is not treated as a relay.
func TestADeviceIsNotTakenForARelay(t *testing.T) {
	for name, event := range map[string]func(n int) (names []string, values []float64){
		"values of its own": func(n int) ([]string, []float64) {
			return []string{"R", "R_max"}, []float64{float64(n), float64(n + 1)}
		},
		"now and then a value of its own": func(n int) ([]string, []float64) {
			return []string{"R", "R_max"}, []float64{float64(n), float64(n - 1 + 1000*(n%8/7))}
		},
		"another reading is standing still": func(n int) ([]string, []float64) {
			if n%2 == 0 {
				return []string{"R"}, []float64{5}
			}
			return []string{"other", "R_max"}, []float64{float64(n), 5}
		},
		"another reading's results": func(n int) ([]string, []float64) {
			if n%2 == 0 {
				return []string{"R"}, []float64{float64(n)}
			}
			return []string{"other", "R_max"}, []float64{float64(n), float64(n - 1)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newNeighbours(t, 2)
			for n := range 1000 {
				names, values := event(n)
				require.Equal(t, 2, b.deliver("d", names, values), "%d", n)
			}
			require.Empty(t, b.all[0].loops.names())
		})
	}
}

// A device that sometimes repeats a published value of a window is not treated as a relay; a device whose every value is the result of the previous
// one is, and counts as a device again once it sends without being fed, each time after a longer proof.
func TestADeviceThatWasTakenForARelayIsPardoned(t *testing.T) { synctest.Test(t, pardons) }

func pardons(t *testing.T) {
	k := New("n", "app-offload", 3, silent{})
	classes, err := task.NewClasses(nil)
	require.NoError(t, err)
	steady := func(window int) (skipped int) {
		for n := range 100_000 {
			time.Sleep(time.Second)
			ev := &task.Event{ID: uuid.NewString(), Device: fmt.Sprint("d", window), Encoding: task.JSON}
			for _, name := range []string{"R", "R_max"} {
				ev.Readings = append(ev.Readings, task.Reading{Resource: name, Type: task.Float64, Value: []byte("5")})
			}
			if !k.Admit(ev, classes) {
				skipped++
			} else if n%window == 0 {
				published := dtos.NewEvent("P", ev.Device, "R_max")
				require.NoError(t, published.AddSimpleReading("R_max", "Float64", 5.0))
				require.NoError(t, k.Sign(nowhere{}).Publish(local.Result{Event: published, Hop: 1}))
			}
		}
		return skipped
	}
	require.Zero(t, steady(4), "a window of four events")
	skipped := steady(1)
	require.Positive(t, skipped)
	require.Less(t, skipped, 300, "of 100,000")
}

func TestDevicesThatPassResultsOnAreBounded(t *testing.T) {
	var l loops
	for n := range uint64(3 * maxPassing) {
		l.feeds(n, echo{passes: true, value: n, serial: n}, []uint64{n}, "x", time.Now())
		for v := range uint64(2 * maxMade) {
			l.published(n, []uint64{n}, []uint64{v})
		}
	}
	require.LessOrEqual(t, len(l.devices), maxPassing)
	for _, p := range l.devices {
		require.LessOrEqual(t, len(p.made), maxMade)
	}
}

// Devices that are not relays make room for others; if all are relays, all are removed.
func TestRelaysAreKeptWhereThereIsRoom(t *testing.T) {
	var l loops
	for n := range uint64(maxPassing) {
		l.feeds(n, echo{passes: true}, nil, "x", time.Now())
	}
	l.devices[7].relay = true
	l.feeds(maxPassing, echo{passes: true}, nil, "x", time.Now())
	require.Len(t, l.devices, 2)
	require.True(t, l.devices[7].relay)
	for n := range uint64(maxPassing) {
		l.feeds(n, echo{passes: true}, nil, "x", time.Now())
		l.devices[n].relay = true
	}
	l.feeds(2*maxPassing, echo{passes: true}, nil, "x", time.Now())
	require.Len(t, l.devices, 1)
}

// The values of readings without a result's name are not compared once the event is known not to be an echo.
func TestAnEventOfADeviceIsNotCompared(t *testing.T) {
	k := New("n", "app-offload", 3, silent{})
	k.remember([]uint64{1})
	ev := &task.Event{Readings: []task.Reading{{Resource: "a", Value: []byte("1")}, {Resource: "b", Value: []byte("2")}}}
	require.Equal(t, echo{}, k.compare(ev))
}

// A device becomes a relay once it has been fed often enough, which is reported once; its own readings with a result's name restart the count.
func TestARelayIsFoundOnce(t *testing.T) {
	var l loops
	now := time.Now()
	value, found := uint64(100), 0
	feed := func(own bool) (skip bool) {
		l.published(1, []uint64{5}, []uint64{value})
		skip, news := l.feeds(1, echo{passes: true, own: own, value: value, serial: value}, []uint64{5}, "relay", now)
		if value++; news {
			found++
		}
		return skip
	}
	skip, news := l.feeds(1, echo{own: true}, []uint64{5}, "relay", now)
	require.False(t, skip || news)
	require.Empty(t, l.devices, "it passes nothing on")
	l.feeds(1, echo{passes: true, own: true}, []uint64{5}, "relay", now)
	require.Empty(t, l.devices, "it has a value of its own")
	l.feeds(1, echo{passes: true, value: 1}, []uint64{5}, "relay", now)
	for range relayPoints/pointsNew - 1 {
		require.False(t, feed(false))
	}
	require.False(t, feed(true))
	for n := range relayPoints / pointsNew {
		require.Equal(t, n == relayPoints/pointsNew-1, feed(false), n)
	}
	require.Equal(t, 1, found)
	require.True(t, feed(false))
	require.False(t, feed(true), "what has a value of its own is worked on")
	require.Equal(t, 1, found)
	require.Equal(t, "relay", l.names())
}

// A relay remains one while its republished results are newer than all before.
func TestOnlyNewerResultsFeedARelay(t *testing.T) {
	now := time.Now()
	p := passing{relay: true, needs: relayPoints, serial: 5, fed: now}
	p.count(echo{passes: true, serial: 3}, now)
	p.count(echo{passes: true, serial: 4}, now)
	require.Equal(t, 2, p.unfed)
	p.count(echo{passes: true, serial: 6}, now)
	require.Zero(t, p.unfed)
	p.count(echo{passes: true, own: true, serial: 7}, now)
	require.Equal(t, 1, p.unfed, "a reading of its own is no proof")
	for range unfedStreak {
		p.count(echo{passes: true, serial: 7}, now.Add(unfedTime-1))
	}
	require.True(t, p.relay, "it is too soon")
	p.count(echo{passes: true, serial: 7}, now.Add(unfedTime))
	require.False(t, p.relay)
	require.Equal(t, 2*relayPoints, p.needs)
	require.Zero(t, p.points+p.unfed)
}
