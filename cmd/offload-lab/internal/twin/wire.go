package twin

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

// wire is a toxic that is a link: first in, first out, with a rate and a distance. Toxiproxy's own bandwidth sleeps for each
// piece, and every sleep on a busy machine is longer than asked for, so that its link is slower by how busy the machine is. Here each
// byte has its moment, counted from when the link became free: who oversleeps hurries, and the rate is as said.
type wire struct {
	Rate    float64 `json:"rate"`    // bytes/s, 0 is without a bound
	Latency float64 `json:"latency"` // s

	carried atomic.Int64 // bytes
	entered atomic.Int64 // ns since the Unix epoch, when the first piece of a task came since this was 0
}

// taskPiece is the least that a piece of a task has; acknowledgements and pings are smaller.
const taskPiece = 1000

func init() { toxics.Register("wire", new(wire)) }

// GetBufferSize lets bytes wait for their moment without holding up who sends them: each piece knows when it came.
func (*wire) GetBufferSize() int { return 1 << 14 }

// Pipe carries one direction of a connection.
func (w *wire) Pipe(stub *toxics.ToxicStub) {
	var free time.Time // when the link has carried all before
	for {
		select {
		case <-stub.Interrupt:
			return
		case c := <-stub.Input:
			if c == nil {
				stub.Close()
				return
			}
			w.carried.Add(int64(len(c.Data)))
			if len(c.Data) >= taskPiece {
				w.entered.CompareAndSwap(0, c.Timestamp.UnixNano())
			}
			if free = w.carry(stub, c, free); free.IsZero() {
				return
			}
		}
	}
}

// carry passes a piece on bit by bit, each when it would be there. It gives the time at which the link is free again, zero when
// it was interrupted.
func (w *wire) carry(stub *toxics.ToxicStub, c *stream.StreamChunk, free time.Time) time.Time {
	if free.Before(c.Timestamp) {
		free = c.Timestamp
	}
	for len(c.Data) > 0 {
		bit := len(c.Data)
		if w.Rate > 0 {
			bit = min(bit, max(int(w.Rate/100), 256))
			free = free.Add(time.Duration(float64(bit) / w.Rate * 1e9))
		}
		there := free.Add(time.Duration(w.Latency * 1e9))
		select {
		case <-time.After(time.Until(there)):
			stub.Output <- &stream.StreamChunk{Data: c.Data[:bit], Timestamp: there}
			c.Data = c.Data[bit:]
		case <-stub.Interrupt:
			stub.Output <- c // nothing is lost
			return time.Time{}
		}
	}
	return free
}

// link is a proxy to the broker that is as slow upwards, and as far both ways, as it is told.
type link struct {
	proxy *toxiproxy.Proxy
	up    *wire
}

func newLink(upstream string, rate float64, rtt time.Duration) (*link, error) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics log on their own
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &link{proxy: toxiproxy.NewProxy(server, "twin", "127.0.0.1:0", upstream)}
	if err := l.proxy.Start(); err != nil {
		return nil, fmt.Errorf("starting the proxy to the broker: %w", err)
	}
	for _, direction := range []struct {
		stream string
		rate   float64
	}{{"downstream", 0}, {"upstream", rate}} {
		added, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
			`{"name":%[1]q,"type":"wire","stream":%[1]q,"toxicity":1,"attributes":{"rate":%g,"latency":%g}}`,
			direction.stream, direction.rate, rtt.Seconds()/2)))
		if err != nil {
			l.proxy.Stop()
			return nil, fmt.Errorf("shaping the link: %w", err)
		}
		l.up = added.Toxic.(*wire)
	}
	return l, nil
}

// passed is what the link has seen of a lone task.
type passed struct {
	bytes   int64
	entered int64 // ns since the Unix epoch
}

// watch begins to look at the next task; what it gives tells of it once it is done.
func (l *link) watch() func() passed {
	before := l.up.carried.Load()
	l.up.entered.Store(0)
	return func() passed { return passed{l.up.carried.Load() - before, l.up.entered.Load()} }
}
