package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/canary"
	"app-offload/cmd/internal/edgetest"
	"app-offload/cmd/internal/pgtest"
	"app-offload/functions/seal"
)

// passwordOf admits clients with the one password.
type passwordOf struct {
	broker.HookBase
	password string
}

func (h *passwordOf) ID() string { return "password" }

func (h *passwordOf) Provides(b byte) bool {
	return b == broker.OnConnectAuthenticate || b == broker.OnACLCheck
}

func (h *passwordOf) OnConnectAuthenticate(c *broker.Client, pk packets.Packet) bool {
	return c.ID == "radio" || string(pk.Connect.Password) == h.password
}

func (h *passwordOf) OnACLCheck(*broker.Client, string, bool) bool { return true }

// Secrets of the consumer appear neither in its log, nor in the output of a verb, nor in an answer, on success and on failure.
func TestNoSecretIsShown(t *testing.T) {
	birds := canary.Flock{}
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	good := birds.Plant("broker password", "canary-Broker-31415926")
	passwords := write("password", good+"\n")
	wrong := write("wrong", birds.Plant("wrong password", "canary-Wrong-27182818")+"\n")
	write("keys/k1.key", birds.PlantKey("AES key", []byte("canary-aes-key-of-32-bytes-0001!")))
	write("other/k1.key", birds.PlantKey("other AES key", []byte("canary-aes-key-of-32-bytes-0002!")))
	badKeys := write("bad.txt", "k1 "+birds.Plant("malformed AES key", "canary-this-is-no-key")+"\n")
	pem := write("key.pem", birds.Plant("client key", "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5LWNsaWVudC1rZXktbGluZS1vbmU\nY2FuYXJ5LWNsaWVudC1rZXktbGluZS10d28\n-----END PRIVATE KEY-----\n"))
	dsnPassword := birds.Plant("database password", "canaryDatabase16180339")
	keys := filepath.Join(dir, "keys")

	var said []string
	t.Run("all goes well, and messages are refused", func(t *testing.T) {
		for name, dsn := range map[string]string{"sqlite": "sqlite:" + filepath.Join(dir, "a.db"), "postgres": withPassword(t, pgtest.Start(t).Database(t), dsnPassword)} {
			address := edgetest.Broker(t, &passwordOf{password: good})
			out, log, stop := program(t, "-from", "mqtt://"+address, "-user", "cloud", "-password-file", passwords, "-store", dsn, "-keys", keys, "-jsonl", "-listen", "127.0.0.1:0")
			edge, forger := newEdge(t, loadKeys(t, keys)), newEdge(t, loadKeys(t, filepath.Join(dir, "other")))
			r := newRadio(t, address, seal.NewOpener(loadKeys(t, keys), seal.Limits{}))
			r.send(t, batchTopic, edge.Batch(t, 1, 1, 2, 3))
			r.receipt(t)
			r.send(t, batchTopic, forger.Batch(t, 1, 4))
			r.send(t, batchTopic, []byte("rubbish"))
			metrics := "http://" + regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(log.String())[1]
			eventually(t, func() bool {
				return strings.Contains(get(t, metrics+"/metrics"), "offload_cloud_dead_letters_total 2\n")
			}, "%s: 2 dead letters: %v", name, log)
			for _, path := range []string{"/metrics", "/ready", "/live", "/"} {
				said = append(said, get(t, metrics+path))
			}
			require.Zero(t, stop(), log.String())
			said = append(said, out.String(), log.String())
			for _, args := range [][]string{{"stats"}, {"stats", "-json"}, {"events"}, {"dead", "list"}, {"dead", "retry", "-keys", keys}} {
				said = append(said, verb(t, append(args, "-store", dsn)...))
			}
		}
	})
	t.Run("all goes wrong", func(t *testing.T) {
		address := edgetest.Broker(t, &passwordOf{password: good})
		db := "sqlite:" + filepath.Join(dir, "b.db")
		for _, args := range [][]string{
			{"-from", "mqtt://" + address, "-user", "cloud", "-password-file", wrong, "-store", db},
			{"-from", "mqtt://cloud:" + dsnPassword + "@" + address, "-store", db},
			{"-from", "ftp://cloud:" + dsnPassword + "@" + address, "-store", db},
			{"-from", "nats://cloud:" + dsnPassword + "@" + address, "-store", db},
			{"-from", "mqtt://cloud:" + dsnPassword + "@ho st:%zz", "-store", db},
			{"-from", "mqtt://" + address, "-store", db, "-keys", badKeys},
			{"-from", "mqtts://" + address, "-store", db, "-tls-cert", pem, "-tls-key", pem},
			{"-from", "mqtts://" + address, "-store", db, "-tls-ca", pem},
			{"-from", "mqtt://" + address, "-store", "postgres://cloud:" + dsnPassword + "@127.0.0.1:1/offload?connect_timeout=2"},
			{"-from", "mqtt://" + address, "-store", "postgres://cloud:" + dsnPassword + "@host:port/%zz"},
			{"-from", "mqtt://" + address, "-store", "postgres://cloud:" + dsnPassword + "@host:1/d?sslmode=maybe&pool_max_conns=many"},
			{"-from", "mqtt://" + address, "-store", "host=h user=u password=" + dsnPassword + " dbname=d"},
			{"stats", "-store", "postgres://cloud:" + dsnPassword + "@127.0.0.1:1/offload?connect_timeout=2"},
			{"dead", "list", "-store", "postgresql:cloud:" + dsnPassword},
		} {
			out, log := &buffer{}, &buffer{}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			go func() { // a verb that retries forever has tried once it logs
				for log.String() == "" && ctx.Err() == nil {
					time.Sleep(10 * time.Millisecond)
				}
				time.AfterFunc(3*time.Second, cancel)
			}()
			code := run(ctx, args, streams{out, log})
			cancel()
			if args[1] != "mqtt://"+address || len(args) != 8 || args[3] != "cloud" { // a wrong password is retried until the end
				require.NotZero(t, code, "%v", args)
			}
			require.NotEmpty(t, log.String())
			said = append(said, log.String()+out.String())
		}
	})
	require.Greater(t, len(said), 20)
	for _, text := range said {
		require.Empty(t, birds.Find(text))
	}
	require.NotEmpty(t, birds.Find(string(bytes.ToUpper([]byte(good)))+good), "the search itself works")
}

// withPassword puts a password into a database's URL. The test's server accepts every password.
func withPassword(t *testing.T, dsn, password string) string {
	t.Helper()
	if rest, ok := strings.CutPrefix(dsn, "postgres://"); ok {
		if user, host, ok := strings.Cut(rest, "@"); ok {
			return "postgres://" + user + ":" + password + "@" + host
		}
		separator := "?"
		if strings.Contains(rest, "?") {
			separator = "&"
		}
		return dsn + separator + "password=" + password
	}
	t.Fatalf("not a URL: %s", dsn)
	return ""
}
