package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/functions/batch"
	"app-offload/functions/export"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// noClasses gives every class the defaults.
type noClasses struct{}

func (noClasses) All() []*task.Class { return nil }

// lines is the exporter's log.
type lines struct{ *slog.Logger }

func (l lines) Debugf(f string, a ...any) { l.Debug(fmt.Sprintf(f, a...)) }
func (l lines) Infof(f string, a ...any)  { l.Info(fmt.Sprintf(f, a...)) }
func (l lines) Warnf(f string, a ...any)  { l.Warn(fmt.Sprintf(f, a...)) }
func (l lines) Errorf(f string, a ...any) { l.Error(fmt.Sprintf(f, a...)) }

func openSpool(t *testing.T, dir string) *spool.Spool {
	t.Helper()
	cfg := spool.DefaultConfig()
	cfg.QuotaMiB, cfg.RingMiB, cfg.OnFull = 16, 0, spool.DropOldest
	cfg.Sync, cfg.SyncInterval = spool.SyncInterval, "1h" // with which a crash makes the next run skip sequences
	s, err := spool.Open(dir, cfg)
	require.NoError(t, err)
	return s
}

// keep stores one task of about the given size and returns its sequence.
func keep(t *testing.T, s *spool.Spool, lane, size int, ttl time.Duration) uint64 {
	t.Helper()
	at := time.Now().UnixNano()
	one := &task.Task{
		EventID: fmt.Sprintf("event-%d", at), Device: "pump", Profile: "pump", Source: "state", Origin: at, Received: at, Of: 1,
		Class: &task.Class{Name: "default", Priority: lane}, Encoding: task.JSON, Data: fmt.Appendf(nil, `{"id":"%d","x":"%s"}`, at, strings.Repeat("x", size)),
	}
	recs := []spool.Record{{Lane: lane, Class: "default", Time: at, Payload: one.Append(nil)}}
	if ttl > 0 {
		recs[0].Expires = at + int64(ttl)
	}
	done := make(chan error, 1)
	s.Append(recs, func(err error) { done <- err })
	require.NoError(t, <-done)
	return recs[0].Seq
}

// damage flips one bit in the middle of the data after the text in a segment.
func damage(t *testing.T, dir, text string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	require.NoError(t, err)
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		if i := bytes.Index(b, []byte(text)); i >= 0 {
			b[i+len(text)/2] ^= 1
			require.NoError(t, os.WriteFile(name, b, 0o600))
			return
		}
	}
	t.Fatalf("%q is in no segment of %s", text, dir)
}

// runExporter exports the spool until it is stopped.
func runExporter(t *testing.T, s *spool.Spool, address string, log *buffer) (stop func()) {
	t.Helper()
	bc := batch.DefaultConfig()
	bc.MaxAge = "5ms"
	scheduler, err := batch.New(bc, s, noClasses{})
	require.NoError(t, err)
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(t, err)
	cfg := export.DefaultConfig()
	cfg.Broker, cfg.ReceiptTimeout, cfg.ProbeEvery = "tcp://"+address, "1s", "0s"
	x, err := export.New(cfg, export.Deps{
		Node: "n1", Batches: scheduler, Spool: s, Sealer: sealer, Opener: seal.NewOpener(nil, seal.Limits{}),
		Log: lines{slog.New(slog.NewTextHandler(log, nil))},
	})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- x.Run(context.Background()) }()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = x.Close(ctx) // the remaining records do not matter
		require.NoError(t, <-ended)
	}
}

type figures struct {
	Records, DeadLetters int64
	Gaps                 uint64
	Gone                 map[string]uint64
}

func statsOf(t *testing.T, db string) (f figures) {
	t.Helper()
	text := verb(t, "stats", "-json", "-store", db)
	if text != "" {
		require.NoError(t, json.Unmarshal([]byte(text), &f))
	}
	return f
}

// Every gap is explained, from a node's spool to the consumer's statistics: an expired record, an evicted record, a record damaged on disk, a record
// finally processed on the node, and sequences that were never used because of a crash.
func TestEveryGapIsExplained(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := openSpool(t, dir)
	for range 5 {
		keep(t, s, 5, 100, 0)
	}
	keep(t, s, 5, 100, time.Millisecond)
	keep(t, s, 5, 100, time.Millisecond)
	s.Drop([]uint64{keep(t, s, 5, 100, 0)}, spool.ReasonHere)
	marked := keep(t, s, 5, 10, 0)
	at := fmt.Sprintf(`"x":"%s"}`, strings.Repeat("x", 10))
	keep(t, s, 0, 200<<10, 0) // the lowest lane is evicted first
	keep(t, s, 0, 200<<10, 0)
	for s.Stats().Dropped[spool.ReasonFull] < 2 {
		keep(t, s, 9, 200<<10, 0)
	}
	require.NoError(t, s.Close())
	damage(t, dir, at)
	s = openSpool(t, dir)
	last := keep(t, s, 5, 100, 0)
	crashed := filepath.Join(t.TempDir(), "spool")
	require.NoError(t, os.CopyFS(crashed, os.DirFS(dir))) // the disk as after a kill at this moment
	require.NoError(t, s.Close())
	s = openSpool(t, crashed)
	defer func() { require.NoError(t, s.Close()) }()
	first := keep(t, s, 5, 100, 0)
	require.Greater(t, first, last+1, "sequences were skipped")

	address, db := edgetest.Broker(t), "sqlite:"+filepath.Join(t.TempDir(), "cloud.db")
	_, log, stop := program(t, "-from", "mqtt://"+address, "-store", db)
	exported := &buffer{}
	end := runExporter(t, s, address, exported)
	want := map[string]uint64{"expired": 2, "full": 2, "quarantined": 1, "here": 1, "skipped": first - last - 1}
	var have figures
	eventually(t, func() bool {
		have = statsOf(t, db)
		held, _, _ := s.Fill()
		if held == 0 && have.Gone["skipped"] < want["skipped"] {
			keep(t, s, 5, 100, 0) // the floor arrives with batches, and a receipt asks for some thousand sequences at a time
		}
		return held == 0 && have.Gaps == 0 && have.Gone["skipped"] >= want["skipped"]
	}, "the consumer knows %+v, the spool %+v\n%v\n%v", &have, s.Stats(), log, exported)
	end()
	require.Zero(t, stop(), log.String())
	have = statsOf(t, db)
	require.Equal(t, want, have.Gone)
	require.Zero(t, have.DeadLetters)
	explained := uint64(have.Records)
	for _, n := range have.Gone {
		explained += n
	}
	require.Equal(t, s.Stats().Next-1, explained, "every sequence up to the last is stored or explained")
	require.Equal(t, spool.ReasonQuarantined, s.Fate(marked))
}
