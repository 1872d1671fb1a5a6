package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// consul is the real one, of the release that EdgeX ships, with its data on disk so that it survives a restart.
type consul struct {
	*process
	port string
}

func startConsul(t *testing.T) *consul {
	t.Helper()
	c := &consul{port: freePort(t)}
	c.process = newProcess(t, "consul", os.Getenv("E2E_CONSUL"), "agent", "-server", "-bootstrap-expect=1", "-data-dir="+t.TempDir(),
		"-bind=127.0.0.1", "-client=127.0.0.1", "-http-port="+c.port, "-grpc-port=-1", "-grpc-tls-port=-1", "-dns-port=-1",
		"-server-port="+freePort(t), "-serf-lan-port="+freePort(t), "-serf-wan-port="+freePort(t), "-log-level=warn",
		"-disable-host-node-id", "-hcl", "disable_update_check = true",
		// A single server need not wait long before it elects itself again after a restart.
		"-hcl", "performance { raft_multiplier = 1 }")
	c.begin()
	return c
}

// begin starts it, and waits until it leads and accepts writes.
func (c *consul) begin() {
	c.t.Helper()
	c.start()
	await(c.t, "Consul elects itself", func() bool { return c.put("ready", "yes") == nil }, c.log.tail)
}

func (c *consul) url(path string) string { return "http://127.0.0.1:" + c.port + "/v1/" + path }

func (c *consul) call(method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url(path), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, raw)
	}
	return raw, err
}

func (c *consul) put(key, value string) error {
	_, err := c.call(http.MethodPut, "kv/"+key, value)
	return err
}

func (c *consul) get(key string) (string, bool) {
	raw, err := c.call(http.MethodGet, "kv/"+key+"?raw", "")
	return string(raw), err == nil
}

// putAll writes several keys in one transaction: a watcher sees all of them or none.
func (c *consul) putAll(prefix string, values map[string]string) {
	c.t.Helper()
	type set struct{ Verb, Key, Value string }
	var ops []map[string]set
	for key, value := range values {
		ops = append(ops, map[string]set{"KV": {"set", prefix + key, base64.StdEncoding.EncodeToString([]byte(value))}})
	}
	for batch := range slices.Chunk(ops, 60) { // a transaction takes 64 of them
		c.commit(batch)
	}
}

func (c *consul) commit(ops any) {
	c.t.Helper()
	body, err := json.Marshal(ops)
	require.NoError(c.t, err)
	_, err = c.call(http.MethodPut, "txn", string(body))
	require.NoError(c.t, err)
}

// putTree writes YAML below a prefix, as EdgeX's bootstrapper does with the common configuration.
func (c *consul) putTree(prefix, text string) {
	c.t.Helper()
	var tree map[string]any
	require.NoError(c.t, yaml.Unmarshal([]byte(text), &tree))
	values := map[string]string{}
	flatten("", tree, values)
	c.putAll(prefix, values)
}

func flatten(path string, node any, into map[string]string) {
	tree, ok := node.(map[string]any)
	if !ok {
		into[path] = fmt.Sprint(node)
		return
	}
	for key, child := range tree {
		flatten(strings.TrimPrefix(path+"/"+key, "/"), child, into)
	}
}

// passing reports whether Consul knows the service and its health check passes.
func (c *consul) passing(service string) bool {
	raw, err := c.call(http.MethodGet, "health/service/"+service+"?passing", "")
	var found []any
	return err == nil && json.Unmarshal(raw, &found) == nil && len(found) == 1
}

// registered reports whether Consul knows the service at all.
func (c *consul) registered(service string) bool {
	raw, err := c.call(http.MethodGet, "catalog/service/"+service, "")
	var found []any
	return err == nil && json.Unmarshal(raw, &found) == nil && len(found) > 0
}
