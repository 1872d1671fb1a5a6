// Package pgtest starts a real PostgreSQL server for a test, from the programs that Debian's package installs.
//
// Where they are missing the test is skipped, except with CI=true, where it fails: there the package must be installed.
package pgtest

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver "pgx"
	"github.com/stretchr/testify/require"
)

// Server is a running server that only this test uses, reached through a socket in its own folder.
type Server struct {
	dir   string
	admin *sql.DB
	next  atomic.Int64
}

// Start starts a server and stops it when the test ends. Settings are added to its command line, such as "fsync=off".
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	bin := programs(t)
	dir, err := os.MkdirTemp("/tmp", "pgtest") // short, for the path of a socket is limited to 107 bytes
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	as := account(t, dir)

	data := filepath.Join(dir, "data")
	// #nosec G204 -- a test's own database server
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "offload", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = as, dir
	out, err := initdb.CombinedOutput()
	require.NoError(t, err, "initdb: %s", out)

	args := []string{"-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "max_connections=50"}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	log := &bytes.Buffer{}
	// #nosec G204 -- as above
	server := exec.Command(filepath.Join(bin, "postgres"), args...)
	server.SysProcAttr, server.Dir, server.Stderr, server.Stdout = as, dir, log, log
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT) // "fast" in PostgreSQL's words: sessions end, the data is consistent
		_ = server.Wait()
	})
	s := &Server{dir: dir}
	s.admin, err = sql.Open("pgx", s.url("postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.admin.Close() })
	s.wait(t, log)
	return s
}

func programs(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1])
	}
	const missing = "PostgreSQL's server is not installed (package postgresql)"
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// account is under whose name the server runs: it refuses to run as root.
func account(t testing.TB, dir string) *syscall.SysProcAttr {
	t.Helper()
	attr := &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is the test's to pass on
	if os.Geteuid() != 0 {
		return attr
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		who, err = user.Lookup("nobody")
	}
	require.NoError(t, err)
	uid, err := strconv.ParseUint(who.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(who.Gid, 10, 32)
	require.NoError(t, err)
	require.NoError(t, os.Chown(dir, int(uid), int(gid)))
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr
}

func (s *Server) wait(t testing.TB, log *bytes.Buffer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for s.admin.PingContext(ctx) != nil {
		require.NoError(t, ctx.Err(), "the server does not answer: %s", log)
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *Server) url(database string) string {
	return "postgres://offload@/" + database + "?host=" + url.QueryEscape(s.dir)
}

// Database creates an empty database and gives its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.next.Add(1))
	_, err := s.admin.ExecContext(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err)
	return s.url(name)
}
