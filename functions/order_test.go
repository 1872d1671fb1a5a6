package functions

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// A consumer that starts late, or is slow to send receipts, is no outage, whether or not the ring has room for the waiting records: fresher ones of
// the device do not overtake them.
func TestAConsumerThatIsLateOrSlowKeepsTheOrder(t *testing.T) {
	for _, c := range []struct {
		name        string
		late, delay time.Duration
		ring        int // MiB
	}{
		{"late", 2500 * time.Millisecond, 0, 4}, // room for all of them; a quarter of it has none
		{"slow", 0, 1500 * time.Millisecond, 4},
		{"late and slow", 1500 * time.Millisecond, 600 * time.Millisecond, 4},
		{"slow, without a ring", 0, 1500 * time.Millisecond, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const devices, each = 20, 150
			b := startBroker(t)
			cfg := testConfig(t, b, "cloud")
			cfg.Spool.RingMiB = c.ring
			cfg.Writable.Policy.LinkDown, cfg.Writable.Policy.BacklogLimit = "deadline", 1
			cfg.Export.ReceiptTimeout = "2s" // batches from before the consumer are published again
			s := open(t, cfg, &bin{})
			s.Start()
			began := time.Now()
			var cons *cloud
			for n := range each {
				if cons == nil && time.Since(began) >= c.late {
					cons = startSlowCloud(t, b, c.delay)
				}
				events := make([]*task.Event, devices)
				for d := range events {
					events[d] = event(fmt.Sprintf("device-%d", d), d*each+n)
				}
				s.Submit(events, func(_ int, err error) {
					if err != nil {
						t.Errorf("an event was refused: %v", err)
					}
				})
				time.Sleep(25 * time.Millisecond)
			}
			eventually(t, 2*time.Minute, "all is receipted", func() bool { return s.Counts().Receipted == devices*each })
			last := map[string]int64{}
			for _, one := range cons.tasks() {
				require.Greater(t, one.Origin, last[one.Device], "device %s is out of order", one.Device)
				last[one.Device] = one.Origin
			}
			require.Len(t, cons.tasks(), devices*each)
		})
	}
}

func startSlowCloud(t *testing.T, b *broker, delay time.Duration) *cloud {
	c := startCloud(t, b, "n1", nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay = delay
	return c
}
