package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"app-offload/cmd/offload-lab/internal/feed"
)

// devices is the number of devices that the events are distributed over.
const devices = 5

// publisher simulates the device services: it publishes at QoS 1 and tracks the acknowledgements of the MessageBus. It republishes an event unchanged
// until it is acknowledged. The same seed produces the same events, so that no event needs to be stored.
type publisher struct {
	client mqtt.Client
	seed   uint64
	origin int64
	every  time.Duration
	slots  chan struct{} // bounds the unacknowledged events
	plain  bool          // no waveforms: one event is one task

	cancel  context.CancelFunc
	running sync.WaitGroup
	turn    sync.Mutex // held while publishing, by the traffic or by a check
	sent    atomic.Int64
	acked   atomic.Int64
}

func newPublisher(addr string, seed uint64, rate float64) (*publisher, error) {
	client, err := connected(addr, "device-services")
	return &publisher{
		client: client, seed: seed, origin: time.Now().UnixNano(), slots: make(chan struct{}, 200),
		every: time.Duration(float64(time.Second) / rate),
	}, err
}

// connected returns a client of a broker that reconnects automatically.
func connected(addr, id string) (mqtt.Client, error) {
	o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(id).SetCleanSession(true).
		SetAutoReconnect(true).SetMaxReconnectInterval(time.Second).SetKeepAlive(20 * time.Second).SetOrderMatters(false)
	c := mqtt.NewClient(o)
	if err := done(c.Connect()); err != nil {
		return nil, fmt.Errorf("connecting %s to %s: %w", id, addr, err)
	}
	return c, nil
}

// done waits for an operation of a client.
func done(token mqtt.Token) error {
	if !token.WaitTimeout(patience) {
		return fmt.Errorf("no answer within %v", patience)
	}
	return token.Error()
}

// accepted is the number of events acknowledged by the MessageBus. After rest these are the events from 0 on.
func (p *publisher) accepted() int {
	if p == nil {
		return 0
	}
	return int(p.acked.Load())
}

// start runs the traffic until stop.
func (p *publisher) start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.running.Go(func() {
		for next := time.Now(); ; next = p.after(next) {
			select {
			case <-time.After(time.Until(next)):
			case <-ctx.Done():
				return
			}
			p.turn.Lock()
			p.publish(ctx)
			p.turn.Unlock()
		}
	})
}

// after returns the due time of the next event. It makes up for a late timer, but not for a pause of more than a second.
func (p *publisher) after(due time.Time) time.Time {
	if due = due.Add(p.every); time.Since(due) > time.Second {
		return time.Now()
	}
	return due
}

// publish sends the next event without waiting for its acknowledgement, unless too many are outstanding.
func (p *publisher) publish(ctx context.Context) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	n := int(p.sent.Load())
	token := p.send(n)
	p.sent.Add(1)
	p.running.Go(func() {
		defer func() { <-p.slots }()
		for !token.WaitTimeout(patience/3) || token.Error() != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			token = p.send(n)
		}
		p.acked.Add(1)
	})
}

func (p *publisher) send(n int) mqtt.Token {
	e := p.event(n)
	return p.client.Publish("edgex/events/device/faults/"+e.Profile+"/"+e.Device+"/"+e.Source, 1, false, p.message(e))
}

// rest pauses the traffic, waits until all sent events are acknowledged, and calls f.
func (p *publisher) rest(ctx context.Context, f func() error) error {
	p.turn.Lock()
	defer p.turn.Unlock()
	if err := inTurn(ctx, p.settled, p.connected); err != nil {
		return err
	}
	return f()
}

func (p *publisher) settled(ctx context.Context) error {
	return until(ctx, patience, "the MessageBus acknowledges all that was sent", func() (bool, error) {
		return p.acked.Load() == p.sent.Load(), nil
	})
}

// connected waits for the MessageBus: messages published before the client is reconnected are sent in any order.
func (p *publisher) connected(ctx context.Context) error {
	return until(ctx, patience, "the publisher is connected again", func() (bool, error) { return p.client.IsConnectionOpen(), nil })
}

func (p *publisher) stop() {
	if p.cancel == nil {
		return
	}
	p.cancel()
	p.running.Wait()
	p.client.Disconnect(250)
}

// event creates the n-th event: a reading, and in every twentieth also an array that is cut into chunks, unless plain events are selected.
func (p *publisher) event(n int) feed.Event {
	device := "pump-" + strconv.Itoa(n%devices)
	e := feed.Event{
		APIVersion: "v3", ID: p.id(n), Device: device, Profile: "Pump", Source: "State", Origin: p.origin + int64(n),
	}
	add := func(resource, kind, value string) {
		e.Readings = append(e.Readings, feed.Reading{
			ID: p.id(n), Origin: e.Origin, Device: device, Resource: resource, Profile: e.Profile, Type: kind, Value: value,
		})
	}
	add("Pressure", "Float64", fmt.Sprintf("%e", float64(n)))
	if n%20 == 0 && !p.plain {
		add("Waveform", "Float32Array", waveform(n))
	}
	return e
}

func waveform(n int) string {
	var b strings.Builder
	for i := range 700 {
		b.WriteString(", ")
		b.WriteString(strconv.Itoa(n%1000 + i))
	}
	return "[" + b.String()[2:] + "]"
}

// id is a UUID that contains the seed and the number.
func (p *publisher) id(n int) string {
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(p.seed), n)
} // a part of the seed suffices

var errForeign = errors.New("this event was never published")

// number returns the number of the event with an id.
func (p *publisher) number(id string) (int, error) {
	if len(id) != 36 {
		return 0, errForeign
	}
	n, err := strconv.ParseUint(id[24:], 16, 40)
	if err != nil || p.id(int(n)) != id || int64(n) >= p.sent.Load() { // 40 bits
		return 0, errForeign
	}
	return int(n), nil // 40 bits
}

// raw is the event as contained in the message.
func (p *publisher) raw(n int) []byte {
	raw, _ := json.Marshal(p.event(n)) // texts and numbers can always be encoded
	return raw
}

func (p *publisher) message(e feed.Event) []byte {
	request, _ := e.Request() // the same applies to these two
	envelope, _ := feed.Envelope(request, "application/json", e.ID)
	return envelope
}
