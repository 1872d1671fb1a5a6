package main

import (
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A client that sends nothing, half a request, an incomplete body, or no further request, loses its connection.
func TestSlowClientsLoseTheirConnection(t *testing.T) {
	const host = " / HTTP/1.1\r\nHost: h\r\n"
	for _, text := range []string{"", "GET / HTTP/", "POST" + host + "Content-Length: 9\r\n\r\n", "GET" + host + "\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			client, conn := net.Pipe()
			conns := make(chan net.Conn, 1)
			conns <- conn
			server := newServer(http.NotFoundHandler())
			go server.Serve(&piped{conns}) //nolint:errcheck // that it was closed
			defer server.Close()
			require.NoError(t, client.SetDeadline(time.Now().Add(time.Hour)))
			_, err := io.WriteString(client, text)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, client)
			require.NoError(t, err, "%q: still open after an hour", text)
		})
	}
}

// piped is a listener for passed connections.
type piped struct{ conns chan net.Conn }

func (p *piped) Accept() (net.Conn, error) {
	if c := <-p.conns; c != nil {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p *piped) Close() error { close(p.conns); return nil }
func (*piped) Addr() net.Addr { return &net.TCPAddr{} }
