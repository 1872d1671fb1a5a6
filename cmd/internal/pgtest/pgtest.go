// Package pgtest gives a test a real PostgreSQL server. Where its programs are missing the test is skipped, except with CI=true, where it
// fails: there the package must be installed.
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

// Server is a running server that only this test uses.
type Server struct {
	server *postgres.Server
	next   atomic.Int64
}

// Start starts a server and stops it when the test ends. Settings are added to its command line, such as "fsync=off".
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

// Database creates an empty database and gives its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	address, err := s.server.Database(t.Context(), fmt.Sprintf("test%d", s.next.Add(1)))
	require.NoError(t, err)
	return address
}
