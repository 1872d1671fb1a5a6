package e2e

import (
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"app-offload/functions/seal"
)

// batches are the numbers of records in the exported messages.
type batches struct {
	mu     sync.Mutex
	counts []int
}

// listenToBatches receives the batches for the cloud.
func (s *stack) listenToBatches() *batches {
	s.t.Helper()
	b := &batches{}
	client := paho.NewClient(paho.NewClientOptions().AddBroker(s.cloudURL).SetClientID("e2e"))
	done := func(token paho.Token) {
		s.t.Helper()
		require.True(s.t, token.WaitTimeout(patience))
		require.NoError(s.t, token.Error())
	}
	done(client.Connect())
	done(client.Subscribe("offload/v1/+/batch/+", 1, func(_ paho.Client, m paho.Message) { b.heard(m.Payload()) }))
	s.t.Cleanup(func() { client.Disconnect(uint(time.Second.Milliseconds())) })
	return b
}

func (b *batches) heard(raw []byte) {
	opened, err := seal.NewOpener(nil, seal.Limits{}).Open(raw)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.counts = append(b.counts, len(opened.Tasks))
	}
}

// last returns the size of the latest batch.
func (b *batches) last() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.counts) == 0 {
		return 0
	}
	return b.counts[len(b.counts)-1]
}

// full reports whether the last five batches have exactly that many records, though more were available.
func (b *batches) full(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.counts) < 5 {
		return false
	}
	for _, count := range b.counts[len(b.counts)-5:] {
		if count != n {
			return false
		}
	}
	return true
}
