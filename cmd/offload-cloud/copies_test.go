package main

import (
	"context"
	"fmt"
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

// gateway is the part of a node that stores and exports, configured as in the service.
type gateway struct {
	spool    *spool.Spool
	exporter *export.Exporter
	ended    chan error
}

type testLogger struct{ t *testing.T }

func (testLogger) Debugf(string, ...any)            {}
func (testLogger) Infof(string, ...any)             {}
func (l testLogger) Warnf(format string, a ...any)  { l.t.Logf("WARN "+format, a...) }
func (l testLogger) Errorf(format string, a ...any) { l.t.Logf("ERROR "+format, a...) }

// startGateway opens a spool, adds new tasks of its own, and exports all of it under the node name of its image.
func startGateway(t *testing.T, dir, address, client, events string, tasks int) *gateway {
	t.Helper()
	s, err := spool.Open(dir, spool.DefaultConfig())
	require.NoError(t, err)
	for n := range tasks {
		one := edgeOf(t, "n1", events, 1).Task(uint64(n) + 1)
		stored := make(chan error, 1)
		s.Append([]spool.Record{{Lane: 5, Class: "default", Payload: one.Append(nil)}}, func(err error) { stored <- err })
		require.NoError(t, <-stored)
	}
	classes, err := task.NewClasses(map[string]task.ClassConfig{"default": {}})
	require.NoError(t, err)
	scheduler, err := batch.New(batch.DefaultConfig(), s, classes)
	require.NoError(t, err)
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(t, err)
	cfg := export.DefaultConfig()
	cfg.Broker, cfg.ClientID = "tcp://"+address, client
	x, err := export.New(cfg, export.Deps{
		Node: "n1", Batches: scheduler, Spool: s, Sealer: sealer, Opener: seal.NewOpener(nil, seal.Limits{}), Log: testLogger{t},
	})
	require.NoError(t, err)
	g := &gateway{spool: s, exporter: x, ended: make(chan error, 1)}
	go func() { g.ended <- x.Run(context.Background()) }()
	return g
}

func (g *gateway) empty() bool { return g.spool.Stats().Held == 0 }

func (g *gateway) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, g.exporter.Close(ctx))
	require.NoError(t, <-g.ended)
	require.NoError(t, g.spool.Close())
}

// Gateways with a spool restored from a copy, or from one golden image with one node name: a gateway that meets the sequences of another one begins a
// new epoch, and the consumer has every task of all gateways exactly once.
func TestGatewaysOfOneImageLoseNothing(t *testing.T) {
	for _, atOnce := range []bool{false, true} {
		t.Run(fmt.Sprintf("at once %v", atOnce), func(t *testing.T) {
			dir := t.TempDir()
			dsn := "sqlite:" + filepath.Join(dir, "cloud.db")
			address := edgetest.Broker(t)
			_, log, stop := program(t, "-from", "mqtt://"+address, "-store", dsn)

			first := startGateway(t, filepath.Join(dir, "image"), address, "image", "image", 3)
			eventually(t, first.empty, "the image's own tasks arrive")
			epoch := first.spool.Epoch()
			first.stop(t)

			const gateways, each = 3, 20
			var running []*gateway
			for n := range gateways {
				name := fmt.Sprint("gateway", n)
				copied := filepath.Join(dir, name)
				require.NoError(t, os.CopyFS(copied, os.DirFS(filepath.Join(dir, "image"))))
				g := startGateway(t, copied, address, name, name, each)
				running = append(running, g)
				if !atOnce {
					eventually(t, g.empty, "all of %s arrives", name)
				}
			}
			epochs := map[string]bool{}
			for n, g := range running {
				eventually(t, g.empty, "all of gateway %d arrives: %+v", n, g.spool.Stats())
				st := g.spool.Stats()
				require.EqualValues(t, 3+each, st.Done)
				require.Empty(t, st.Dropped)
				epochs[st.Epoch] = true
				g.stop(t)
			}
			require.Len(t, epochs, gateways, "each has an epoch of its own, one of them that of the image: %s", epoch)
			require.Equal(t, 3+gateways*each, strings.Count(verb(t, "events", "-store", dsn), "\n"))
			require.Zero(t, stop(), log.String())
		})
	}
}
