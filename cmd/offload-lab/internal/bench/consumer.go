package bench

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"app-offload/functions/seal"
	"app-offload/functions/task"
)

// consumer is the bench's cloud: it opens batches, counts every event and sends receipts, but stores nothing. It also sums the windows published by
// local work.
type consumer struct {
	client mqtt.Client
	opener *seal.Opener
	sealer *seal.Sealer
	tally  *tally
	sums   atomic.Int64 // events in the published windows
	mu     sync.Mutex
	err    error // the first error
}

func startConsumer(broker string, t *tally) (*consumer, error) {
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	if err != nil {
		return nil, err
	}
	c := &consumer{tally: t, sealer: sealer, opener: seal.NewOpener(nil, seal.Limits{})}
	c.client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + broker).SetClientID("bench-consumer").
		SetAutoReconnect(false).SetConnectionLostHandler(func(_ mqtt.Client, err error) {
		c.failed(fmt.Errorf("the bench's consumer lost its connection: %w", err))
	}))
	if err := waitFor(c.client.Connect()); err != nil {
		return nil, fmt.Errorf("connecting the bench's consumer to %s: %w", broker, err)
	}
	for topic, take := range map[string]func([]byte) error{
		seal.BatchTopic(node, "+"): c.takeBatch,
		floorTopic:                 c.takeFloor,
		peerTopic:                  c.takePeer,
		"edgex/events/device/" + serviceKey + "/#": c.takeResult,
	} {
		err := waitFor(c.client.Subscribe(topic, 1, func(_ mqtt.Client, m mqtt.Message) {
			if err := take(m.Payload()); err != nil {
				c.failed(fmt.Errorf("reading a message on %s: %w", m.Topic(), err))
			}
		}))
		if err != nil {
			return nil, fmt.Errorf("subscribing to %s: %w", topic, err)
		}
	}
	return c, nil
}

func (c *consumer) stop() { c.client.Disconnect(100) }

func (c *consumer) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

func (c *consumer) problem() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// takeBatch counts a batch of the service and sends its receipt. It does not wait for the broker's acknowledgement: a handler that waits for its own
// client deadlocks.
func (c *consumer) takeBatch(message []byte) error {
	b, err := c.opener.Open(message)
	if err != nil {
		return err
	}
	numbers := make([]int, len(b.Tasks))
	for i, raw := range b.Tasks {
		t, err := task.Decode(raw)
		if err != nil {
			return err
		}
		numbers[i] = numberOf(t.EventID)
	}
	now := time.Now()
	c.tally.take(numbers, now)
	receipt, err := c.sealer.SealReceipt(nil, &seal.Receipt{ID: b.ID, Node: b.Node, Epoch: b.Epoch, Created: now, Safe: ranges(b.Sequences)})
	if err != nil {
		return err
	}
	c.client.Publish(seal.ReceiptTopic(b.Node), 1, false, receipt)
	return nil
}

// ranges joins consecutive sequences.
func ranges(sequences []uint64) []seal.Range {
	var all []seal.Range
	for _, s := range sequences {
		if n := len(all); n > 0 && all[n-1].Last+1 == s {
			all[n-1].Last = s
			continue
		}
		all = append(all, seal.Range{First: s, Last: s})
	}
	return all
}

func (c *consumer) takeFloor(message []byte) error {
	var batch []struct{ Event struct{ ID string } }
	if err := json.Unmarshal(message, &batch); err != nil {
		return err
	}
	numbers := make([]int, len(batch))
	for i := range batch {
		numbers[i] = numberOf(batch[i].Event.ID)
	}
	c.tally.take(numbers, time.Now())
	return nil
}

// takeResult adds the count of a summary's window.
func (c *consumer) takeResult(message []byte) error {
	var e struct{ Payload []byte }
	var r struct {
		Event struct {
			Readings []struct{ ResourceName, Value string }
		}
	}
	if err := json.Unmarshal(message, &e); err != nil {
		return err
	}
	if err := json.Unmarshal(e.Payload, &r); err != nil {
		return err
	}
	for _, reading := range r.Event.Readings {
		if reading.ResourceName != source+"_count" {
			continue
		}
		n, err := strconv.ParseInt(reading.Value, 10, 64)
		if err != nil {
			return err
		}
		c.sums.Add(n)
	}
	return nil
}
