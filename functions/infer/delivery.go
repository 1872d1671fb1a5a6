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
	maxMessages = 64              // of deliveries that wait; what finds no room is asked for again
	dueEvery    = 2 * time.Second // between two looks for chunks that did not come
	sayEvery    = time.Minute     // between two log lines about the same problem
)

// Deliveries takes models over MQTT into the store. Take may be called from anywhere and does not block.
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

// Deliveries takes up what an earlier run has begun to receive. send must not block. It is nil where the configuration takes no deliveries.
func (r *Room) Deliveries(node string, send func(topic string, message []byte), log say.Logger) (*Deliveries, error) {
	if r.store == nil || !r.cfg.Delivery {
		return nil, nil //nolint:nilnil // none
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
		message = bytes.Clone(message[:delivery.MaxMessage+1]) // it is refused like that, and the rest of it need not wait
	}
	select {
	case d.queue <- message:
	default:
		d.dropped.Add(1)
	}
}

// Dropped is how many messages found the queue full; they are asked for again.
func (d *Deliveries) Dropped() uint64 { return d.dropped.Load() }

// Progress is how far deliveries are.
func (d *Deliveries) Progress() []delivery.Progress { return d.receiver.Progress() }

// Close keeps what has come for the next start.
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
