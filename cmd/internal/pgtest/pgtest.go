// Package pgtest provides a test with a real PostgreSQL server. It skips the test if the server's programs are missing, or fails it with CI=true.
package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/postgres"
)

// Server is a running server of a single test.
type Server struct {
	server *postgres.Server
	next   atomic.Int64
}

// Start starts a server and stops it when the test ends. Settings such as "fsync=off" are added to its command line.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	log := &bytes.Buffer{}
	server, err := postgres.Start(t.Context(), log, settings...)
	if errors.Is(err, postgres.ErrMissing) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	return &Server{server: server}
}

// Database creates an empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	address, err := s.server.Database(t.Context(), fmt.Sprintf("test%d", s.next.Add(1)))
	require.NoError(t, err)
	return address
}
