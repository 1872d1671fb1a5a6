package infer

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"app-offload/functions/clock"
	"app-offload/functions/models/delivery"
	"app-offload/functions/say"
)

const (
	maxMessages = 64              // queued messages of deliveries; the receiver requests a dropped one again
	dueEvery    = 2 * time.Second // interval of requests for missing chunks
	sayEvery    = time.Minute     // between two log lines about one problem
)

// Deliveries receives models over MQTT into the store. Take is safe for concurrent use and does not block.
type Deliveries struct {
	receiver *delivery.Receiver
	node     string
	send     func(topic string, message []byte)
	log      say.Logger
	said     *say.Every
	queue    chan []byte
	dropped  atomic.Uint64 // messages that found the queue full
	ended    chan struct{}
	stop     context.CancelFunc
}

// Deliveries starts to receive models, and resumes the deliveries of an earlier run. send must not block. The result is nil if the configuration
// accepts no deliveries.
func (r *Room) Deliveries(node string, send func(topic string, message []byte), log say.Logger) (*Deliveries, error) {
	if r.store == nil || !r.cfg.Delivery {
		return nil, nil //nolint:nilnil // deliveries are off
	}
	receiver, err := delivery.NewReceiver(r.store, delivery.Config{}, r.deps.Clock)
	if err != nil {
		return nil, err
	}
	d := &Deliveries{
		receiver: receiver, node: node, send: send, log: log, said: say.NewEvery(sayEvery),
		queue: make(chan []byte, maxMessages), ended: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	r.deliveries.Store(d)
	go func() {
		defer close(d.ended)
		d.run(ctx)
	}()
	return d, nil
}

// Take queues a message of the node's topic for models.
func (d *Deliveries) Take(message []byte) {
	if len(message) > delivery.MaxMessage {
		message = bytes.Clone(message[:delivery.MaxMessage+1]) // oversized, so Handle rejects it; the queue keeps no more of it
	}
	select {
	case d.queue <- message:
	default:
		d.dropped.Add(1)
	}
}

// Dropped returns the number of messages dropped because the queue was full. The receiver requests them again.
func (d *Deliveries) Dropped() uint64 { return d.dropped.Load() }

// Progress returns the progress of the deliveries.
func (d *Deliveries) Progress() []delivery.Progress { return d.receiver.Progress() }

// Close saves incomplete deliveries for the next start.
func (d *Deliveries) Close(ctx context.Context) error {
	d.stop()
	select {
	case <-d.ended:
		return d.receiver.Close()
	case <-ctx.Done():
		return errors.New("closing the deliveries of models while one is loaded")
	}
}

func (d *Deliveries) run(ctx context.Context) {
	due := clock.NewTicker(dueEvery)
	for {
		select {
		case <-ctx.Done():
			return
		case message := <-d.queue:
			d.handle(ctx, message)
		case <-due.C:
			wants, err := d.receiver.Due(ctx)
			d.report(ctx, err)
			for _, want := range wants {
				d.send(delivery.WantTopic(d.node), want)
			}
		}
	}
}

func (d *Deliveries) handle(ctx context.Context, message []byte) {
	want, err := d.receiver.Handle(ctx, message)
	d.report(ctx, err)
	if want == nil {
		return
	}
	d.send(delivery.WantTopic(d.node), want)
	if w, err := delivery.DecodeWant(want); err == nil && w.State == delivery.Installed {
		d.log.Infof("delivered model installed: id=%s", w.ID)
	}
}

func (d *Deliveries) report(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	if n, ok := d.said.Due(err.Error()); ok {
		d.log.Warnf("delivering a model failed: error=%q count=%d", err, n)
	}
}
