// Package feed generates the sensor data of a small plant: this machine's own vital signs, a vibration sensor with a bearing that fails from time to
// time, and a camera over a conveyor with parts. Every message is that of an EdgeX 3.1 device service; the ground truth, such as the state of the
// bearing, is kept separately.
package feed

import (
	"context"
	"math/rand/v2"
	"time"

	"app-offload/functions/host"
)

// Message is one message for the MessageBus.
type Message struct {
	Topic string        // without the base prefix: events/device/<service>/<profile>/<device>/<source>
	After time.Duration // since the start of the stream, at rate 1
	Event Event
}

// Source is a device source with a fixed interval.
type Source interface {
	// Interval is the time between two events at rate 1.
	Interval() time.Duration
	// Next returns the event at time at.
	Next(at time.Time) Event
}

// Sources lists all sources of the plant. Equal seeds give equal signals, except for measurements of this machine. node provides its frequency and
// temperature.
func Sources(seed uint64, node host.Source) []Source {
	return append(machine(seed, node), newVibration(rand.New(rand.NewPCG(seed, 1))), newCamera(rand.New(rand.NewPCG(seed, 2))))
}

// Play calls emit for every message, on time, until ctx ends, the duration is over (0 means unlimited) or emit fails. It runs on the caller's
// goroutine; a rate of 20 divides all intervals by twenty.
func Play(ctx context.Context, sources []Source, rate float64, duration time.Duration, emit func(Message) error) error {
	start := time.Now()
	due := make([]time.Duration, len(sources))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		i := earliest(due)
		if duration > 0 && due[i] >= duration {
			return nil
		}
		timer.Reset(time.Until(start.Add(due[i])))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		ev := sources[i].Next(start.Add(due[i]))
		if err := emit(Message{Topic: ev.Topic(), After: time.Duration(float64(due[i]) * rate), Event: ev}); err != nil {
			return err
		}
		due[i] += time.Duration(float64(sources[i].Interval()) / rate)
	}
}

// Generate emits the same stream as Play without waiting, as fast as emit accepts it.
func Generate(sources []Source, start time.Time, duration time.Duration, emit func(Message) error) error {
	due := make([]time.Duration, len(sources))
	for {
		i := earliest(due)
		if due[i] >= duration {
			return nil
		}
		ev := sources[i].Next(start.Add(due[i]))
		if err := emit(Message{Topic: ev.Topic(), After: due[i], Event: ev}); err != nil {
			return err
		}
		due[i] += sources[i].Interval()
	}
}

func earliest(due []time.Duration) int {
	first := 0
	for i := range due {
		if due[i] < due[first] {
			first = i
		}
	}
	return first
}
