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

	"app-offload/functions/edgex"
)

// res/openapi.yaml and the routes are the same list, and only the probes are open.
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

// The whole API of the running program: valid requests, invalid ones, and the responses.
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
		{"a filter that matches nothing", "GET", "/decisions?device=unknown", "", 200, []string{`"decisions":[]`}},
		{"a malformed limit", "GET", "/decisions?limit=many", "", 400, []string{`limit = \"many\"`}},
		{"no drop to acknowledge", "POST", "/drops/acknowledge", "", 200, []string{`"acknowledged":0`}},
		{"reasons that everybody shows", "GET", "/ready", "", 200, []string{`"health":{"state":"well"`, `"code":"quarantine"`}},
		{"an unknown target", "GET", "/decisions?target=moon", "", 400, []string{"must be local or cloud"}},
		{"a decision that is not kept", "GET", "/decisions/1", "", 404, []string{"no longer kept"}},
		{"a malformed id", "GET", "/decisions/x", "", 400, []string{"must be the number"}},
		{"a task", "POST", "/task", `{"dataSize":512,"complexity":80,"deadline":100}`, 200, []string{`"taskId":`, `"action":"`, `"explanation":"`}},
		{"a task for one policy", "POST", "/task", `{"dataSize":1,"policy":"cloud"}`, 200, []string{`"action":"cloud"`, `"policy":"cloud"`}},
		{"an unknown policy", "POST", "/task", `{"dataSize":1,"policy":"luck"}`, 400, []string{"use one of weighted"}},
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

// answer returns the API's response to a request, without a service behind it: only rejected requests need none.
func answer(t *testing.T, g guard, method, target, contentType, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest(method, "http://localhost:59740"+target, strings.NewReader(body))
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	path, _, _ := strings.Cut(target, "?")
	rec := httptest.NewRecorder()
	for _, r := range routes() {
		if r.method == method && r.path == path {
			require.NoError(t, (&api{guard: g}).serve(r)(echo.New().NewContext(req, rec)))
			return rec
		}
	}
	require.Fail(t, "no such route", "%s %s", method, path)
	return nil
}

// A request may not be larger than it needs to be.
func TestRequestIsBounded(t *testing.T) {
	rec := answer(t, guard{}, http.MethodPost, "/task", "application/json", `{"policy":"`+strings.Repeat("x", maxRequest)+`"}`)
	require.Equal(t, http.StatusBadRequest, rec.Code)
	require.Contains(t, rec.Body.String(), "the body has more than 65536 bytes")
}

// A misread task is not a task of size 0: the response names the key, and suggests the intended one.
func TestTaskIsUnderstoodOrRefused(t *testing.T) {
	const plain = "application/json"
	for _, c := range []struct{ contentType, body, says string }{
		{"", `{"dataSize":512}`, "must be application/json"},
		{"text/plain", `{"dataSize":512}`, "must be application/json"},
		{"application/x-www-form-urlencoded", `dataSize=512`, "must be application/json"},
		{"application/json;;", `{"dataSize":512}`, "must be application/json"},
		{plain, ``, "unexpected end of input"},
		{plain, `{`, "unexpected end of input"},
		{plain, `{"dataSize":`, "unexpected end of input"},
		{plain, `{"dataSize":512`, "unexpected end of input"},
		{plain, `null`, "one JSON object"},
		{plain, `[{"dataSize":512}]`, "one JSON object"},
		{plain, `{}`, "dataSize is missing"},
		{plain, `{"complexity":80}`, "dataSize is missing"},
		{plain, `{"datasize":512}`, `unknown key \"datasize\"; did you mean dataSize?`},
		{plain, `{"dataSzie":512}`, `unknown key \"dataSzie\"; did you mean dataSize?`},
		{plain, `{"data_size":512}`, `did you mean dataSize?`},
		{plain, `{"dataSize":512,"complexty":80}`, `did you mean complexity?`},
		{plain, `{"dataSize":512,"deadlin":80}`, `did you mean deadline?`},
		{plain, `{"dataSize":512,"Policy":"cloud"}`, `did you mean policy?`},
		{plain, `{"dataSize":512,"zzz":1}`, `unknown key \"zzz\"; known: dataSize, complexity, deadline, policy`},
		{plain, `{"dataSize":512,"dataSize":1}`, "duplicate key dataSize"},
		{plain, `{"dataSize":"512"}`, "dataSize ="},
		{plain, `{"dataSize":null}`, "must be a number"},
		{plain, `{"dataSize":1,"complexity":true,"deadline":[],"policy":7}`, "complexity ="},
		{plain, `{"dataSize":1,"complexity":true,"deadline":[],"policy":7}`, "policy ="},
		{plain, `{"dataSize":1} {"dataSize":2}`, "unexpected data"},
		{plain, `{"dataSize":1e999}`, "dataSize ="},
	} {
		rec := answer(t, guard{}, http.MethodPost, "/task", c.contentType, c.body)
		require.Equal(t, http.StatusBadRequest, rec.Code, "%s %s", c.contentType, c.body)
		require.Contains(t, rec.Body.String(), c.says, c.body)
	}
}

// No route ignores a parameter that it does not know, or cannot parse.
func TestParametersAreUnderstoodOrRefused(t *testing.T) {
	for _, c := range []struct{ method, target, says string }{
		{"GET", "/decisions?devise=press-1", `unknown parameter \"devise\"; did you mean device?`},
		{"GET", "/decisions?Limit=3", `did you mean limit?`},
		{"GET", "/decisions?limit=3&limit=4", "repeated 2 times"},
		{"GET", "/decisions?limit=", "must be a whole number"},
		{"GET", "/decisions?limit=1e2", "must be a whole number"},
		{"GET", "/decisions?limit=%zz", "parsing the query"},
		{"GET", "/decisions?target=cluod", "must be local or cloud"},
		{"GET", "/decisions?policy=luck", "use one of"},
		{"GET", "/ui/data?since=-1", "must be the number"},
		{"GET", "/ui/data?since=", "must be the number"},
		{"GET", "/ui/data?target=moon", "must be local or cloud"},
		{"GET", "/ui/data?policy=luck", "use one of"},
		{"GET", "/ui/data?limit=3", "known: since, class, device, target, policy"},
		{"GET", "/live?verbose", "the route has none"},
		{"GET", "/ready?x=1", "the route has none"},
		{"GET", "/status?pretty=true", "the route has none"},
		{"GET", "/quarantine?limit=3", "the route has none"},
		{"GET", "/config?key=Node", "the route has none"},
		{"GET", "/metrics?name[]=x", "the route has none"},
		{"GET", "/ui?since=0", "the route has none"},
		{"POST", "/task?dataSize=512", "the route has none"},
		{"POST", "/drops/acknowledge?class=x", "the route has none"},
	} {
		rec := answer(t, guard{}, c.method, c.target, "application/json", `{"dataSize":1}`)
		require.Equal(t, http.StatusBadRequest, rec.Code, c.target)
		require.Contains(t, rec.Body.String(), c.says, c.target)
	}
	rec := answer(t, guard{}, "POST", "/drops/acknowledge", "application/json", `{"class":"vibration"}`)
	require.Equal(t, http.StatusBadRequest, rec.Code)
}

// A page of another site, under whatever name that resolves here, gets no answer on any route; the service's names and all addresses do.
func TestOtherSitesGetNoAnswer(t *testing.T) {
	plain := newGuard(edgex.BusConfig{ServiceHost: "edgex-app-offload", ServiceKey: "app-offload-2"}, []string{"Gateway-7.plant.example"}, false)
	for _, c := range []struct {
		host, origin string
		fine         bool
	}{
		{"localhost:59740", "", true},
		{"LOCALHOST", "", true},
		{"127.0.0.1:59740", "http://127.0.0.1:59740", true},
		{"192.168.7.20:59740", "", true},
		{"[::1]:59740", "", true},
		{"[fe80::1%eth0]:59740", "", true},
		{"edgex-app-offload:59740", "", true},
		{"app-offload-2:59740", "", true},
		{"gateway-7.plant.example.:59740", "", true},
		{"localhost:59740", "http://gateway-7.plant.example:3000", true},
		{"evil.example:59740", "", false},
		{"evil.example", "http://evil.example", false},
		{"localhost.evil.example", "", false},
		{"127.0.0.1.evil.example:59740", "", false},
		{"localhost:59740", "http://evil.example", false},
		{"localhost:59740", "http://localhost:8080", false},
		{"localhost:59740", "null", false},
		{"", "", true}, // a probe by HTTP/1.0; no browser leaves the name out
		{"", "http://evil.example", false},
		{"", "null", false},
	} {
		for _, r := range routes() {
			req := httptest.NewRequest(r.method, "http://x"+strings.ReplaceAll(r.path, ":id", "1")+"?nonsense=1", nil)
			req.Host = c.host
			if c.origin != "" {
				req.Header.Set("Origin", c.origin)
			}
			rec := httptest.NewRecorder()
			require.NoError(t, (&api{guard: plain}).serve(r)(echo.New().NewContext(req, rec)))
			want := http.StatusForbidden
			if c.fine {
				want = http.StatusBadRequest // the parameter, which is looked at next
			}
			require.Equal(t, want, rec.Code, "%s %q %q", r.path, c.host, c.origin)
		}
	}
	for _, open := range []guard{newGuard(edgex.BusConfig{}, nil, true), newGuard(edgex.BusConfig{}, []string{"*"}, false)} {
		require.Empty(t, open.refuse(&http.Request{Host: "evil.example", Header: http.Header{"Origin": {"http://evil.example"}}}))
	}
}

// The id of a request is returned with its response, also if it is rejected; a request without one gets a new one.
func TestAnswersCarryTheCorrelationID(t *testing.T) {
	for _, header := range [][]string{{}, {"Host", "evil.example"}} {
		rec := answer(t, guard{}, "GET", "/status?x=1", "", "", append(header, "X-Correlation-ID", "abc-1")...)
		require.Equal(t, "abc-1", rec.Header().Get("X-Correlation-ID"))
		require.Len(t, answer(t, guard{}, "GET", "/status?x=1", "", "", header...).Header().Get("X-Correlation-ID"), 36)
	}
}

// The SDK's own rules decide whether Consul holds the configuration.
func TestOverwrites(t *testing.T) {
	for want, all := range map[bool][][]string{
		true:  {{"-o"}, {"-cp=x", "--overwrite"}, {"-o=true"}, {"-overwrite=1"}},
		false: {nil, {"-cp=x"}, {"-o=false"}, {"-o=x"}, {"o"}, {"-cp=-o"}},
	} {
		for _, args := range all {
			require.Equal(t, want, overwrites(args), args)
		}
	}
}

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
