package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/cmd/internal/pgtest"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/mqtt/mosquittotest"
)

// asNode turns the test's own binary into a server of a cluster, described by a natsNode as JSON.
const asNode = "OFFLOAD_CLOUD_AS_NATS_NODE"

// natsNode is one server; the other ports are those of the whole cluster.
type natsNode struct {
	Name                          string
	Dir                           string
	Client, MQTT, Cluster, Status int
	Routes                        []int
}

func (n *natsNode) options() *server.Options {
	o := &server.Options{
		ServerName: n.Name, Host: "127.0.0.1", Port: n.Client, HTTPHost: "127.0.0.1", HTTPPort: n.Status, JetStream: true, StoreDir: n.Dir,
		SyncAlways: true, MaxPayload: 4 << 20, NoSigs: true, NoLog: true,
		MQTT: server.MQTTOpts{Host: "127.0.0.1", Port: n.MQTT, StreamReplicas: max(1, len(n.Routes)), AckWait: 5 * time.Second, MaxAckPending: 1000},
	}
	if len(n.Routes) > 0 {
		o.Cluster = server.ClusterOpts{Name: "cloud", Host: "127.0.0.1", Port: n.Cluster}
	}
	for _, port := range n.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
	}
	return o
}

// runNode runs a server process.
func runNode(description string) error {
	node := &natsNode{}
	if err := json.Unmarshal([]byte(description), node); err != nil {
		return err
	}
	s, err := server.NewServer(node.options())
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s.Start()
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

func freePort(t *testing.T) int {
	t.Helper()
	_, text, err := net.SplitHostPort(mosquittotest.FreeAddress(t))
	require.NoError(t, err)
	port, err := strconv.Atoi(text)
	require.NoError(t, err)
	return port
}

// One server suffices to show that a consumer logs in and receives messages of MQTT clients, and that they receive its receipts.
func TestReceivesFromNATS(t *testing.T) {
	node := &natsNode{Name: "one", Dir: t.TempDir(), Client: freePort(t), MQTT: freePort(t), Status: freePort(t)}
	options := node.options()
	options.Users = []*server.User{{Username: "cloud", Password: "secret"}, {Username: "edge"}}
	options.MQTT.NoAuthUser = "edge"
	s, err := server.NewServer(options)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("secret\n"), 0o600))
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "cloud.db")
	random := seed(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	edge := (&edgetest.Edge{
		Node: "plant.7", Epoch: "e1", Records: 2000, Doubles: 0.02, Resend: time.Second, Rand: rand.New(rand.NewPCG(random.Uint64(), 2)),
	}).Prepare(t)
	var running sync.WaitGroup
	running.Go(func() { edge.Run(ctx, t, fmt.Sprintf("tcp://127.0.0.1:%d", node.MQTT)) })
	_, log, stop := program(t, "-from", fmt.Sprintf("nats://127.0.0.1:%d", node.Client), "-user", "cloud", "-password-file", password, "-store", dsn)
	running.Wait()
	require.Zero(t, stop(), log.String())
	verify(t, dsn, edge)
}

// natsCluster is three servers in separate processes.
type natsCluster struct {
	nodes []*natsNode
	procs []*exec.Cmd
}

func startCluster(t *testing.T) *natsCluster {
	t.Helper()
	c := &natsCluster{procs: make([]*exec.Cmd, 3)}
	for i := range c.procs {
		c.nodes = append(c.nodes, &natsNode{
			Name: "node-" + strconv.Itoa(i), Dir: t.TempDir(), Client: freePort(t), MQTT: freePort(t), Cluster: freePort(t), Status: freePort(t),
		})
	}
	for _, n := range c.nodes {
		for _, other := range c.nodes {
			n.Routes = append(n.Routes, other.Cluster)
		}
	}
	for i := range c.nodes {
		c.start(t, i)
	}
	t.Cleanup(func() {
		for i := range c.procs {
			c.kill(t, i)
		}
	})
	return c
}

func (c *natsCluster) start(t *testing.T, i int) {
	t.Helper()
	description, err := json.Marshal(c.nodes[i])
	require.NoError(t, err)
	c.procs[i] = exec.Command(os.Args[0])
	c.procs[i].Env = append(os.Environ(), asNode+"="+string(description))
	c.procs[i].Stderr = os.Stderr
	require.NoError(t, c.procs[i].Start())
}

func (c *natsCluster) kill(t *testing.T, i int) {
	t.Helper()
	require.NoError(t, c.procs[i].Process.Kill())
	_ = c.procs[i].Wait()
}

func (c *natsCluster) urls(scheme string, port func(*natsNode) int) (urls []string) {
	for _, n := range c.nodes {
		urls = append(urls, fmt.Sprintf("%s://127.0.0.1:%d", scheme, port(n)))
	}
	return urls
}

// roles returns the leader of the stream, once both other servers have all of it.
func (c *natsCluster) roles(t *testing.T, js jetstream.JetStream) (leader, follower int) {
	t.Helper()
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(200 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		stream, err := js.Stream(ctx, "$MQTT_msgs")
		cancel()
		if err != nil {
			continue
		}
		info := stream.CachedInfo().Cluster
		current := 0
		for _, replica := range info.Replicas {
			if replica.Current && !replica.Offline {
				current++
			}
		}
		if info.Leader == "" || current < 2 {
			continue
		}
		for i, n := range c.nodes {
			if n.Name == info.Leader {
				return i, (i + 1) % len(c.nodes)
			}
		}
	}
	t.Fatal("the cluster does not come to rest")
	return 0, 0
}

// holds returns the server that an MQTT client is connected to.
func (c *natsCluster) holds(t *testing.T, client string) int {
	t.Helper()
	for i, n := range c.nodes {
		if strings.Contains(get(t, fmt.Sprintf("http://127.0.0.1:%d/connz?mqtt_client=%s", n.Status, client)), `"mqtt_client": "`+client+`"`) {
			return i
		}
	}
	return 0
}

// The invariants are those of the other kill tests, with servers killed in addition to consumers and workers: first the leader of the stream, then a
// follower, then the server of the node, all repeated for NATS_KILL_ROUNDS. One task in 100 is of a class with a model, and ends with one result.
func TestKillingNATSServersLosesAndDoublesNothing(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("NATS_KILL_ROUNDS"))
	if err != nil {
		t.Skip("set NATS_KILL_ROUNDS to kill servers of a cluster; a round takes about half a minute")
	}
	random, c, dsn := seed(t), startCluster(t), pgtest.Start(t).Database(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rounds+1)*3*time.Minute)
	defer cancel()
	edge := (&edgetest.Edge{
		Node: "n1", Epoch: "e1", Records: uint64(rounds) * 60_000, Doubles: 0.02, Resend: 5 * time.Second, Pace: 20 * time.Millisecond,
		Measure: true, Plain: 100, Rand: rand.New(rand.NewPCG(random.Uint64(), 2)),
	}).Prepare(t)
	var running sync.WaitGroup
	listeners := c.urls("tcp", func(n *natsNode) int { return n.MQTT })
	running.Go(func() { edge.Run(ctx, t, listeners...) })
	asker := &edgetest.Asker{Node: "n1"}
	asking, silence := context.WithCancel(ctx)
	var other sync.WaitGroup
	other.Go(func() { asker.Run(asking, t, listeners...) })
	defer other.Wait()
	defer silence()
	servers, dir := strings.Join(c.urls("nats", func(n *natsNode) int { return n.Client }), ","), t.TempDir()
	edgetest.Model(t, dir, "double", "1.0", "default")
	consumer := []string{"-from", servers, "-store", dsn, "-class-model", "default=double"}
	var workers []*child
	for _, args := range [][]string{consumer, consumer, {"work", "-models", dir, "-store", dsn, "-threads", "1", "-lease", "5s"}} {
		w := startChild(t, args...)
		w.awaitReady(t)
		workers = append(workers, w)
	}
	conn, err := nats.Connect(servers, nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond))
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	for round := range 3 * rounds {
		left := float64(edge.Records) * (1 - (float64(round)+0.1+0.8*random.Float64())/float64(3*rounds))
		eventually(t, func() bool { return edge.Left() <= int(left) }, "nothing moves: %d records left, round %d", edge.Left(), round)
		leader, follower := c.roles(t, js)
		victim := [...]int{leader, follower, c.holds(t, "edge-n1")}[round%3]
		t.Logf("killing %s (%s) with %d records left", c.nodes[victim].Name, [...]string{"leads", "follows", "holds the node"}[round%3], edge.Left())
		c.kill(t, victim)
		i := random.IntN(len(workers)) // a consumer or the worker is killed as well
		args := workers[i].cmd.Args[1:]
		t.Logf("and offload-cloud %s", args[0])
		workers[i].end(t, syscall.SIGKILL)
		time.Sleep(time.Duration(1000+random.IntN(2000)) * time.Millisecond)
		c.start(t, victim)
		workers[i] = startChild(t, args...)
		workers[i].awaitReady(t)
	}
	running.Wait()
	want := store.JobCounts{Confirmed: int64(edge.Questions())}
	var now store.JobCounts
	for began := time.Now(); now != want; time.Sleep(200 * time.Millisecond) {
		now = counted(t, dsn)
		require.Less(t, time.Since(began), 2*time.Minute, "of %+v: %+v", want, now)
	}
	_, different := asker.Answers()
	require.Len(t, different, edge.Questions())
	for event, results := range different {
		require.Equal(t, 1, results, "results of event %s", event)
	}
	for _, w := range workers {
		w.end(t, syscall.SIGTERM)
	}
	verify(t, dsn, edge)
	t.Logf("gaps named on the way: %d", edge.Gaps())
}
