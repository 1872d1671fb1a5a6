package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// res/openapi.yaml and the routes are the same list, and the probes alone are open.
func TestOpenAPIDescribesTheRoutes(t *testing.T) {
	raw, err := os.ReadFile("../../res/openapi.yaml")
	require.NoError(t, err)
	var doc struct {
		Paths map[string]map[string]struct {
			Summary    string
			Security   *[]any
			Parameters []struct{ Name, In string }
			Responses  map[string]any
		}
	}
	require.NoError(t, yaml.Unmarshal(raw, &doc))
	described := 0
	for _, methods := range doc.Paths {
		described += len(methods)
	}
	require.Len(t, routes(), described, "a route is missing on one side")
	for _, r := range routes() {
		path := regexp.MustCompile(`:(\w+)`).ReplaceAllString(r.path, "{$1}")
		op, ok := doc.Paths[path][strings.ToLower(r.method)]
		require.True(t, ok, "%s %s is not described", r.method, path)
		require.NotEmpty(t, op.Summary)
		require.Contains(t, op.Responses, "200")
		require.Equal(t, r.open, op.Security != nil && len(*op.Security) == 0, "%s %s: security", r.method, path)
	}
}

// The whole API against the running program: good questions, bad ones, and what they are told.
func TestAPI(t *testing.T) {
	t.Parallel()
	e := newEdge(t, "OFFLOAD_WRITABLE_POLICY_DEFAULT=weighted", "OFFLOAD_WRITABLE_POLICY_WEIGHTEDPRESET=article")
	e.start()
	e.publish(1)
	e.send([]byte("rubbish"))
	e.await("the event is through", func() bool { c := e.counts(); return c.Accepted == 1 && c.InFlight == 0 })

	for _, c := range []struct {
		what, method, path, body string
		code                     int
		contains                 []string
	}{
		{"alive", "GET", "/live", "", 200, []string{`"live":true`}},
		{"ready", "GET", "/ready", "", 200, []string{`"ready":true`, `"reasons":[]`}},
		{"the account is in the status", "GET", "/status", "", 200, []string{`"balance":0`, `"quarantined":{"malformed":1}`}},
		{"rubbish is shown with its reason", "GET", "/quarantine", "", 200, []string{`"reason":"malformed"`}},
		{"the configuration in force", "GET", "/config", "", 200, []string{`"WeightedPreset":"article"`, `"version":"`, `"problem":""`}},
		{"decisions are explained", "GET", "/decisions?limit=1&device=d", "", 200, []string{`"explanation":"`, `"device":"d"`}},
		{"a filter that matches nothing", "GET", "/decisions?device=nobody", "", 200, []string{`"decisions":[]`}},
		{"a limit that is none", "GET", "/decisions?limit=many", "", 400, []string{`limit = \"many\"`}},
		{"a target that is none", "GET", "/decisions?target=moon", "", 400, []string{"must be local or cloud"}},
		{"a decision that is not kept", "GET", "/decisions/1", "", 404, []string{"not kept any more"}},
		{"an id that is none", "GET", "/decisions/x", "", 400, []string{"must be the number"}},
		{"a task", "POST", "/task", `{"dataSize":512,"complexity":80,"deadline":100}`, 200, []string{`"taskId":`, `"action":"`, `"explanation":"`}},
		{"a task for one policy", "POST", "/task", `{"dataSize":1,"policy":"cloud"}`, 200, []string{`"action":"cloud"`, `"policy":"cloud"`}},
		{"a policy that is none", "POST", "/task", `{"dataSize":1,"policy":"luck"}`, 400, []string{"use one of weighted"}},
		{"all mistakes at once", "POST", "/task", `{"dataSize":-1,"complexity":101}`, 400, []string{"dataSize", "complexity"}},
		{"no JSON", "POST", "/task", `{`, 400, []string{"the body is not"}},
	} {
		req, err := http.NewRequest(c.method, e.api+c.path, strings.NewReader(c.body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err, c.what)
		var body json.RawMessage
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&body), c.what)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, c.code, resp.StatusCode, "%s: %s", c.what, body)
		for _, want := range c.contains {
			require.Contains(t, string(body), want, c.what)
		}
	}
}

// A request may not be larger than it needs to be.
func TestRequestIsBounded(t *testing.T) {
	req := httptest.NewRequest(http.MethodPost, "/task", strings.NewReader(`{"policy":"`+strings.Repeat("x", maxRequest)+`"}`))
	req.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	require.NoError(t, (&api{}).task(echo.New().NewContext(req, rec)))
	require.Equal(t, http.StatusBadRequest, rec.Code)
}

// Whether Consul holds the configuration is decided by the SDK's own rules.
func TestUsesProvider(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  string
		want bool
	}{
		{nil, "", false},
		{[]string{"-cp=consul.http://localhost:8500"}, "", true},
		{[]string{"--configProvider"}, "", true},
		{[]string{"-cc", "common.yaml"}, "", false},
		{[]string{"-cp"}, "none", false},
		{nil, "consul.http://localhost:8500", true},
	} {
		lookup := func(string) (string, bool) { return c.env, c.env != "" }
		require.Equal(t, c.want, usesProvider(c.args, lookup), "%v %q", c.args, c.env)
	}
}
