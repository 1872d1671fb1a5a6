package mqtt

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// pipe is a connection on which a write may take as long as it makes progress: each piece of a packet has its own
// deadline, so that a large batch on a narrow link is not taken for a hung broker, and a hung one is still noticed.
type pipe struct {
	net.Conn
	write sync.Mutex    // packets of several goroutines must not interleave
	stall time.Duration // for each piece
	sent  chan struct{} // a signal for each PUBLISH that has been written out, while Publish waits for it
}

const pipePiece = 16 << 10

func newPipe(c net.Conn, stall time.Duration) *pipe {
	return &pipe{Conn: c, stall: stall, sent: make(chan struct{}, 1)}
}

func (p *pipe) Write(b []byte) (int, error) {
	p.write.Lock()
	defer p.write.Unlock()
	n := 0
	for piece := range slices.Chunk(b, pipePiece) {
		if err := p.Conn.SetWriteDeadline(time.Now().Add(p.stall)); err != nil {
			return n, err
		}
		k, err := p.Conn.Write(piece)
		n += k
		if err != nil {
			return n, err
		}
	}
	if len(b) > 0 && b[0]>>4 == packets.Publish { // the client writes a packet with one call
		select {
		case p.sent <- struct{}{}:
		default:
		}
	}
	return n, nil
}

// SetWriteDeadline does nothing: each piece has a deadline of its own.
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline concerns reading alone, for the same reason.
func (p *pipe) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

// connect connects to one address, through TLS or a web socket as its scheme says.
func connect(ctx context.Context, a Address, t *tls.Config, timeout time.Duration, o *paho.ClientOptions) (net.Conn, error) {
	if a.WebSocket {
		return paho.NewWebsocket(a.String(), t, timeout, o.HTTPHeaders, o.WebsocketOptions)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d := &net.Dialer{}
	if a.TLS {
		return (&tls.Dialer{NetDialer: d, Config: t}).DialContext(ctx, "tcp", a.Host)
	}
	return d.DialContext(ctx, "tcp", a.Host)
}
