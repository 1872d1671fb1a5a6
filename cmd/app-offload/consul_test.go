package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgexfoundry/app-functions-sdk-go/v3/pkg/interfaces"
	bootstrap "github.com/edgexfoundry/go-mod-bootstrap/v3/bootstrap/interfaces"
	"github.com/edgexfoundry/go-mod-configuration/v3/configuration"
	"github.com/edgexfoundry/go-mod-configuration/v3/pkg/types"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/clients/logger"
	"github.com/stretchr/testify/require"

	"app-offload/functions/config"
)

// keyValues is the part of Consul that a watch uses: the values below a prefix, once they have changed.
type keyValues struct {
	mu     sync.Mutex
	index  int
	values map[string]string
}

func (k *keyValues) set(key, value string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.index++
	k.values[key] = value
}

func (k *keyValues) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	known, _ := strconv.Atoi(r.URL.Query().Get("index"))
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		k.mu.Lock()
		news := k.index > known
		k.mu.Unlock()
		if news || r.Context().Err() != nil {
			break
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	prefix := strings.TrimPrefix(r.URL.Path, "/v1/kv/")
	var pairs []map[string]any
	for key, value := range k.values {
		if strings.HasPrefix(key, prefix) {
			pairs = append(pairs, map[string]any{"Key": key, "Value": []byte(value)})
		}
	}
	w.Header().Set("X-Consul-Index", strconv.Itoa(k.index))
	_ = json.NewEncoder(w).Encode(pairs)
}

// Through EdgeX's own client, an unreadable value in Consul is reported as a named mistake, and does not hold back later changes.
func TestUnreadableValueInConsulIsTold(t *testing.T) {
	t.Parallel()
	const below = "edgex/v3/app-offload/Offload/Writable/"
	kv := &keyValues{index: 1, values: map[string]string{below + "Batch/MaxKiB": "256", below + "Classes/vibration/Priority": "7"}}
	server := httptest.NewServer(kv)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	host, port, err := net.SplitHostPort(u.Host)
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	client, err := configuration.NewConfigurationClient(types.ServiceConfig{Protocol: "http", Host: host, Port: number, Type: "consul", BasePath: "edgex/v3/app-offload"})
	require.NoError(t, err)
	updates, problems := make(chan any), make(chan error, 10)
	client.WatchForChanges(updates, problems, &map[string]any{}, config.Section+"/Writable")
	t.Cleanup(client.StopWatching)

	next := func() (config.Writable, error) {
		t.Helper()
		select {
		case raw := <-updates:
			return config.FromTree(config.Default().Writable, *raw.(*map[string]any))
		case err := <-problems:
			return config.Writable{}, fmt.Errorf("from the client: %w", err)
		case <-time.After(patience):
			require.Fail(t, "no update came")
			return config.Writable{}, nil
		}
	}
	w, err := next()
	require.NoError(t, err)
	require.Len(t, w.Classes, 1)
	kv.set(below+"Batch/MaxKiB", "much")
	_, err = next()
	require.EqualError(t, err, `Offload.Writable.Batch.MaxKiB = "much": is not a whole number`)
	kv.set(below+"Policy/Default", "edge")
	_, err = next()
	require.Error(t, err, "it still cannot be read, and still says so")
	kv.set(below+"Batch/MaxKiB", "512")
	w, err = next()
	require.NoError(t, err)
	require.Equal(t, "edge", w.Policy.Default)
	require.Equal(t, 512, w.Batch.MaxKiB)
}

// startingSDK records the calls of a start.
type startingSDK struct {
	interfaces.ApplicationService
	ctx   context.Context
	calls []string
}

func (s *startingSDK) SecretProvider() bootstrap.SecretProvider { return secretCalls{sdk: s} }

// secretCalls records the secrets that are watched.
type secretCalls struct {
	bootstrap.SecretProvider
	sdk *startingSDK
}

func (c secretCalls) RegisterSecretUpdatedCallback(name string, _ func(string)) error {
	c.sdk.calls = append(c.sdk.calls, name)
	return nil
}

// Every secret in use is watched.
func TestSecretsAreWatched(t *testing.T) {
	for _, row := range [][]string{{"keys", "broker"}, {"", "broker"}, {"keys", ""}, {"", ""}} {
		a := &app{sdk: &startingSDK{}, custom: newCustomConfig()}
		a.custom.Offload.KeySecret, a.custom.Offload.Export.SecretName = row[0], row[1]
		require.NoError(t, a.watchSecrets())
		require.Equal(t, slices.DeleteFunc(row, func(name string) bool { return name == "" }), append([]string{}, a.sdk.(*startingSDK).calls...))
	}
}

// Text of a request is quoted, and cut beyond a length.
func TestQuotedTextIsBounded(t *testing.T) {
	text := strings.Repeat("x", 100)
	require.Equal(t, `"`+text+`"`, quoted(text))
	require.Equal(t, `"`+text+`…"`, quoted(text+"y"))
}

func (s *startingSDK) AppContext() context.Context         { return s.ctx }
func (s *startingSDK) LoggingClient() logger.LoggingClient { return logger.NewMockClient() }

func (s *startingSDK) LoadCustomConfig(interfaces.UpdatableConfig, string) error {
	s.calls = append(s.calls, "load")
	return nil
}

func (s *startingSDK) ListenForCustomConfigChanges(any, string, func(any)) error {
	s.calls = append(s.calls, "watch")
	return nil
}

// A change in Consul during the start is not lost: the configuration is read after the watch has begun, of which the SDK discards the first update.
// A start that a signal interrupts does not watch Consul, since the SDK would panic and leave the service in the registry, and applies no change.
func TestChangesDuringTheStart(t *testing.T) {
	t.Setenv("EDGEX_CONFIG_PROVIDER", "consul.http://localhost:8500")
	ctx, cancel := context.WithCancel(t.Context())
	sdk := &startingSDK{ctx: ctx}
	a := &app{sdk: sdk, custom: newCustomConfig(), opened: make(chan struct{})}
	require.NoError(t, a.load())
	require.Equal(t, []string{"load", "watch", "load", "load"}, sdk.calls)

	cancel()
	a.changed(&map[string]any{"Policy": map[string]any{"Default": "edge"}}) // there is no service
	sdk.calls = nil
	require.NoError(t, a.load())
	require.NotContains(t, sdk.calls, "watch")
}
