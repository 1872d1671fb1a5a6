// Package postgres starts a separate PostgreSQL server for tests and for the lab, from the programs of Debian's package. It listens on a socket in
// its own folder and on no port.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // registers the driver "pgx"
)

// ErrMissing means that the server's programs are not installed.
var ErrMissing = errors.New("PostgreSQL's server is not installed in /usr/lib/postgresql; on Debian: apt-get install postgresql")

// startTime is the maximum start time of a server on a busy machine.
const startTime = 60 * time.Second

// Server is a running server.
type Server struct {
	dir     string
	process *exec.Cmd
	admin   *sql.DB
}

// Programs returns the folder of the newest server's programs, or ErrMissing.
func Programs() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		return "", ErrMissing
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// Start starts a server and waits until it answers. Its output goes to log. Settings such as "fsync=off" are added to its command line. Stop it with
// Stop.
func Start(ctx context.Context, log io.Writer, settings ...string) (*Server, error) {
	bin, err := Programs()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("/tmp", "postgres") // short, since the path of a socket is limited to 107 bytes
	if err != nil {
		return nil, fmt.Errorf("making a folder for PostgreSQL: %w", err)
	}
	s := &Server{dir: dir}
	if err := s.start(ctx, bin, log, settings); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, bin string, log io.Writer, settings []string) error {
	as, err := account(s.dir)
	if err != nil {
		return err
	}
	data := filepath.Join(s.dir, "data")
	// #nosec G204 -- the distribution's own programs
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "offload", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = as, s.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("making PostgreSQL's folder: %w: %s", err, out)
	}
	args := []string{"-D", data, "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=50"}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	s.process = exec.Command(filepath.Join(bin, "postgres"), args...) // #nosec G204 -- as above
	s.process.SysProcAttr, s.process.Dir, s.process.Stderr, s.process.Stdout = as, s.dir, log, log
	if err := s.process.Start(); err != nil {
		s.process = nil
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	if s.admin, err = sql.Open("pgx", s.url("postgres")); err != nil {
		return fmt.Errorf("connecting to PostgreSQL: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		err := s.admin.PingContext(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("PostgreSQL does not answer: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// account returns the user of the server, which refuses to run as root.
func account(dir string) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Setpgid: true} // the caller handles an interrupt at the terminal
	if os.Geteuid() != 0 {
		return attr, nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		who, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("looking for an account that PostgreSQL can run under: %w", err)
	}
	uid, err := strconv.ParseUint(who.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(who.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr, os.Chown(dir, int(uid), int(gid))
}

func (s *Server) url(database string) string {
	return "postgres://offload@/" + database + "?host=" + url.QueryEscape(s.dir)
}

// Database creates an empty database and returns its URL. The name must be a plain word.
func (s *Server) Database(ctx context.Context, name string) (string, error) {
	if _, err := s.admin.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return "", fmt.Errorf("creating database %s: %w", name, err)
	}
	return s.url(name), nil
}

// Stop stops the server and its sessions, and removes its folder.
func (s *Server) Stop() error {
	if s.admin != nil {
		_ = s.admin.Close()
	}
	if s.process != nil {
		_ = s.process.Process.Signal(syscall.SIGINT) // PostgreSQL's "fast" mode: it ends sessions and leaves consistent data
		_ = s.process.Wait()
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("removing PostgreSQL's folder: %w", err)
	}
	return nil
}
