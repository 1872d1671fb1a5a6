package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// floorTopic is the topic of the floor's batches.
const floorTopic = "bench/floor"

// batchSize is the number of events in a batch, of the floor and of the service.
const batchSize = 100

// The floor decodes into plain structs with the fields of EdgeX's DTOs, as any Go program would.
type (
	floorEnvelope struct {
		APIVersion    string `json:"apiVersion"`
		ReceivedTopic string `json:"receivedTopic"`
		CorrelationID string `json:"correlationID"`
		RequestID     string `json:"requestID"`
		ErrorCode     int    `json:"errorCode"`
		Payload       []byte `json:"payload"`
		ContentType   string `json:"contentType"`
	}
	floorRequest struct {
		APIVersion string     `json:"apiVersion"`
		RequestID  string     `json:"requestId"`
		Event      floorEvent `json:"event"`
	}
	floorEvent struct {
		APIVersion string            `json:"apiVersion"`
		ID         string            `json:"id"`
		Device     string            `json:"deviceName"`
		Profile    string            `json:"profileName"`
		Source     string            `json:"sourceName"`
		Origin     int64             `json:"origin"`
		Readings   []floorReading    `json:"readings"`
		Tags       map[string]string `json:"tags"`
	}
	floorReading struct {
		ID       string `json:"id"`
		Origin   int64  `json:"origin"`
		Device   string `json:"deviceName"`
		Resource string `json:"resourceName"`
		Profile  string `json:"profileName"`
		Type     string `json:"valueType"`
		Units    string `json:"units"`
		Value    string `json:"value"`
	}
)

// floor does the minimal work of a decoding subscriber: no decision, no disk, no order, and no protection against loss. It republishes the events'
// own bytes, a hundred per message.
type floor struct {
	client mqtt.Client

	mu    sync.Mutex
	batch bytes.Buffer
	count int
}

// runFloor subscribes, calls ready, and works until the context ends.
func runFloor(ctx context.Context, broker string, qos byte, ready func()) error {
	f := &floor{}
	f.client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + broker).SetClientID("bench-floor").SetAutoReconnect(false))
	if err := waitFor(f.client.Connect()); err != nil {
		return fmt.Errorf("connecting the floor to %s: %w", broker, err)
	}
	defer f.client.Disconnect(100)
	if err := waitFor(f.client.Subscribe("edgex/events/device/#", qos, f.take)); err != nil {
		return fmt.Errorf("subscribing the floor at %s: %w", broker, err)
	}
	ready()
	tick := time.NewTicker(200 * time.Millisecond) // the maximum age of a batch in the service
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			f.mu.Lock()
			f.flush()
			f.mu.Unlock()
		}
	}
}

func (f *floor) take(_ mqtt.Client, m mqtt.Message) {
	var e floorEnvelope
	var r floorRequest
	if err := json.Unmarshal(m.Payload(), &e); err != nil {
		fmt.Fprintf(os.Stderr, "floor: envelope: %v\n", err)
		return
	}
	if err := json.Unmarshal(e.Payload, &r); err != nil {
		fmt.Fprintf(os.Stderr, "floor: event: %v\n", err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batch.WriteByte(",["[b2i(f.count == 0)])
	f.batch.Write(e.Payload)
	if f.count++; f.count == batchSize {
		f.flush()
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// flush publishes the pending events. It does not wait for the acknowledgement: the load's window bounds the events in flight.
func (f *floor) flush() {
	if f.count == 0 {
		return
	}
	f.batch.WriteByte(']')
	f.client.Publish(floorTopic, 1, false, bytes.Clone(f.batch.Bytes()))
	f.batch.Reset()
	f.count = 0
}

// waitFor waits for the client's result, for a time that only a hung broker exceeds.
func waitFor(t mqtt.Token) error {
	if !t.WaitTimeout(30 * time.Second) {
		return fmt.Errorf("no answer within 30 s")
	}
	return t.Error()
}
