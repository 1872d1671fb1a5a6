package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgexfoundry/app-functions-sdk-go/v3/pkg/interfaces"
	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"app-offload/cmd/app-offload/internal/dashboard"
	"app-offload/functions"
	"app-offload/functions/check"
	"app-offload/functions/config"
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/status"
)

// base is the path prefix of the service's own routes.
const base = "/api/v3/offload"

// route is one entry of the API. res/openapi.yaml describes each route; a test compares it with this list.
type route struct {
	method, path string
	open         bool // needs no token in secure mode, since probes cannot send one
	handle       func(*api, echo.Context) error
	parameters   []string // of the query; others are rejected
}

// The parameters of the lists of decisions.
var (
	filters   = []string{"class", "device", "target", "policy"}
	listed    = append([]string{"limit"}, filters...)
	polled    = append([]string{"since"}, filters...)
	noneAtAll []string
)

func routes() []route {
	return []route{
		{http.MethodGet, "/live", true, (*api).live, noneAtAll},
		{http.MethodGet, "/ready", true, (*api).ready, noneAtAll},
		{http.MethodGet, "/status", false, (*api).status, noneAtAll},
		{http.MethodGet, "/decisions", false, (*api).decisions, listed},
		{http.MethodGet, "/decisions/:id", false, (*api).decision, noneAtAll},
		{http.MethodPost, "/task", false, (*api).task, noneAtAll},
		{http.MethodPost, "/drops/acknowledge", false, (*api).acknowledge, noneAtAll},
		{http.MethodGet, "/quarantine", false, (*api).quarantine, noneAtAll},
		{http.MethodGet, "/config", false, (*api).config, noneAtAll},
		{http.MethodGet, "/metrics", false, (*api).prometheus, noneAtAll},
		{http.MethodGet, "/ui", false, (*api).ui, noneAtAll},
		{http.MethodGet, "/ui/data", false, (*api).uiData, polled},
	}
}

// addRoutes registers all routes with the SDK's web server.
func addRoutes(sdk interfaces.ApplicationService, a *api) error {
	for _, r := range routes() {
		authentication := interfaces.Authenticated
		if r.open {
			authentication = interfaces.Unauthenticated
		}
		if err := sdk.AddCustomRoute(base+r.path, authentication, a.serve(r), r.method); err != nil {
			return fmt.Errorf("adding the route %s %s%s: %w", r.method, base, r.path, err)
		}
	}
	return nil
}

// serve answers requests that pass the guard and whose query is valid.
func (a *api) serve(r route) echo.HandlerFunc {
	return func(c echo.Context) error {
		correlate(c)
		if why := a.guard.refuse(c.Request()); why != "" {
			return fail(c, http.StatusForbidden, "%s", why)
		}
		if err := checkQuery(c.Request(), r.parameters); err != nil {
			return fail(c, http.StatusBadRequest, "%v", err)
		}
		return r.handle(a, c)
	}
}

// correlate copies the correlation id of the request to the response, or creates one.
func correlate(c echo.Context) {
	id := c.Request().Header.Get(correlationHeader)
	if id == "" {
		id = uuid.NewString()
	}
	c.Response().Header().Set(correlationHeader, id)
}

// api answers requests. It holds no state of its own.
type api struct {
	guard   guard
	service *functions.Service
	page    *dashboard.Dashboard
	metrics http.Handler
}

// live reports that the process answers; nothing else.
func (a *api) live(c echo.Context) error {
	return c.JSON(http.StatusOK, envelope{"apiVersion": "v3", "live": true})
}

// ready reports whether events are accepted and handled, and what is wrong, consistent with every other view of the health. A warning is no reason to
// take a node out of service, so only critical reasons change the status code.
func (a *api) ready(c echo.Context) error {
	h := a.service.Health()
	code := http.StatusOK
	if !h.Ready() {
		code = http.StatusServiceUnavailable
	}
	return c.JSON(code, envelope{"apiVersion": "v3", "ready": h.Ready(), "reasons": h.Texts(status.Warning), "health": h})
}

func (a *api) status(c echo.Context) error { return c.JSON(http.StatusOK, a.service.Status()) }

// maxDecisions is the largest number of decisions in one response.
const maxDecisions = 1000

// decisions lists the latest decisions, newest first, filtered by class, device, target and policy.
func (a *api) decisions(c echo.Context) error {
	limit := 50
	if c.QueryParams().Has("limit") {
		text := c.QueryParam("limit")
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxDecisions {
			return fail(c, http.StatusBadRequest, "limit = %q: must be a whole number from 1 to %d", text, maxDecisions)
		}
		limit = n
	}
	if err := checkFilters(c); err != nil {
		return fail(c, http.StatusBadRequest, "%v", err)
	}
	entries := a.service.Decisions(limit, func(e *decision.Entry) bool {
		return matches(c, "class", e.Class) && matches(c, "device", e.Device) &&
			matches(c, "target", e.Decision.Target.String()) && matches(c, "policy", e.Policy)
	})
	list := make([]decisionView, len(entries))
	for i, e := range entries {
		list[i] = view(e)
	}
	return c.JSON(http.StatusOK, envelope{"apiVersion": "v3", "decisions": list})
}

func matches(c echo.Context, name, have string) bool {
	want := c.QueryParam(name)
	return want == "" || want == have
}

// decision explains one decision.
func (a *api) decision(c echo.Context) error {
	id, err := strconv.ParseUint(c.Param("id"), 10, 64)
	if err != nil {
		return fail(c, http.StatusBadRequest, "id = %q: must be the number of a decision, as GET %s/decisions lists them", c.Param("id"), base)
	}
	e, ok := a.service.Decision(id)
	if !ok {
		return fail(c, http.StatusNotFound, "decision %d is no longer kept, or never existed; raise Offload.Writable.Policy.Decisions to keep more", id)
	}
	return c.JSON(http.StatusOK, envelope{"apiVersion": "v3", "decision": view(e)})
}

// decisionView is an entry with its explanation.
type decisionView struct {
	decision.Entry
	Explanation string `json:"explanation"`
}

func view(e decision.Entry) decisionView { return decisionView{e, decision.Explain(e)} }

// taskKeys are the fields of a task that the caller has and asks advice for: size in KB of 1,024 bytes, complexity 0–100 (50 if absent), deadline in
// ms (0 means none), and policy ("" means the default).
var taskKeys = []string{"dataSize", "complexity", "deadline", "policy"}

// task answers where a task should be processed, without its data.
func (a *api) task(c echo.Context) error {
	place, err := readTask(c)
	if err != nil {
		return fail(c, http.StatusBadRequest, "%v", err)
	}
	e, err := a.service.Advise(place)
	if err != nil {
		return fail(c, http.StatusBadRequest, "%v", err)
	}
	return c.JSON(http.StatusOK, taskAnswer(e))
}

func readTask(c echo.Context) (decide.Question, error) {
	place := decide.Question{Complexity: 50}
	fields, err := readObject(c, taskKeys)
	if err != nil {
		return place, err
	}
	problems := check.In("")
	if _, ok := fields["dataSize"]; !ok {
		problems.Add(errors.New("dataSize is missing: the size of the task's data in KB of 1,024 bytes"))
	}
	read(problems, fields, "dataSize", "a number", &place.SizeKB)
	read(problems, fields, "complexity", "a number", &place.Complexity)
	read(problems, fields, "deadline", "a number", &place.DeadlineMS)
	read(problems, fields, "policy", "a string", &place.Policy)
	return place, problems.Err()
}

// taskAnswer gives times in ms, like the deadline of the request. A target that cannot be used has null as its time.
func taskAnswer(e decision.Entry) envelope {
	answer := envelope{
		"apiVersion": "v3", "taskId": e.ID, "action": e.Decision.Target, "score": e.Decision.Score, "policy": e.Policy,
		"localTime": e.Estimate.LocalTime * 1e3, "cloudTime": e.Estimate.CloudTime * 1e3,
		"reason": e.Decision.Reason, "explanation": decision.Explain(e),
	}
	for _, way := range []string{"localTime", "cloudTime"} {
		if ms := answer[way].(float64); ms > 1e15 {
			answer[way] = nil
		}
	}
	return answer
}

// acknowledge marks the tasks dropped so far as known to the operator.
func (a *api) acknowledge(c echo.Context) error {
	if c.Request().ContentLength != 0 {
		if _, err := readObject(c, nil); err != nil {
			return fail(c, http.StatusBadRequest, "%v", err)
		}
	}
	n, err := a.service.Acknowledge()
	if err != nil {
		return fail(c, http.StatusInternalServerError, "%d tasks acknowledged, but saving failed, so a restart will forget it: %v", n, err)
	}
	return c.JSON(http.StatusOK, envelope{"apiVersion": "v3", "acknowledged": n})
}

func (a *api) quarantine(c echo.Context) error {
	return c.JSON(http.StatusOK, envelope{"apiVersion": "v3", "quarantined": a.service.Quarantined()})
}

// config is the section Offload in force. The SDK's own /api/v3/config shows it as it was at the start, since the SDK's copy is not guarded against
// changes. It contains no secrets: the configuration rejects an address with a password.
func (a *api) config(c echo.Context) error {
	cfg, now := a.service.Config(), a.service.Status().Configuration
	return c.JSON(http.StatusOK, envelope{"apiVersion": "v3", "version": now.Version, "policies": now.Policies, "problem": now.Problem, config.Section: cfg})
}

// envelope is a response. Every response has apiVersion, as EdgeX's own do.
type envelope map[string]any

// fail responds in the form of EdgeX's BaseResponse.
func fail(c echo.Context, code int, format string, args ...any) error {
	return c.JSON(code, envelope{"apiVersion": "v3", "statusCode": code, "message": fmt.Sprintf(format, args...)})
}

// prometheus answers a scrape.
func (a *api) prometheus(c echo.Context) error {
	a.metrics.ServeHTTP(c.Response(), c.Request())
	return nil
}

// ui serves the page.
func (a *api) ui(c echo.Context) error { return a.page.ServePage(c.Response(), c.Request()) }

// uiData serves the data that the page polls every two seconds.
func (a *api) uiData(c echo.Context) error {
	q := dashboard.Query{
		Target: c.QueryParam("target"), Class: c.QueryParam("class"), Device: c.QueryParam("device"), Policy: c.QueryParam("policy"),
	}
	if err := checkFilters(c); err != nil {
		return fail(c, http.StatusBadRequest, "%v", err)
	}
	if c.QueryParams().Has("since") {
		text := c.QueryParam("since")
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fail(c, http.StatusBadRequest, "since = %q: must be the number of a point, or 0 for all of the history", text)
		}
		q.Since = n
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSON(http.StatusOK, a.page.Data(time.Now(), q))
}

// maxRequest is the maximum size of a request's body, in bytes.
const maxRequest = 64 << 10

// unknown returns the error for an unknown parameter or key. It lists the known ones.
func unknown(what, name string, known []string) error {
	if len(known) == 0 {
		return fmt.Errorf("unknown %s %s: the route has none", what, quoted(name))
	}
	return fmt.Errorf("unknown %s %s%s; known: %s", what, quoted(name), check.DidYouMean(name, known), strings.Join(known, ", "))
}

// checkQuery rejects parameters that are unknown to the route, repeated or malformed: the response to a misread query would look like an answer to
// it.
func checkQuery(r *http.Request, known []string) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fmt.Errorf("parsing the query %s: %w", quoted(r.URL.RawQuery), err)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains(known, name) {
			return unknown("parameter", name, known)
		}
		if len(query[name]) > 1 {
			return fmt.Errorf("the parameter %s is repeated %d times; use it once", name, len(query[name]))
		}
	}
	return nil
}

// checkFilters rejects unknown targets and policies.
func checkFilters(c echo.Context) error {
	if t := c.QueryParam("target"); t != "" && t != "local" && t != "cloud" {
		return fmt.Errorf("target = %s: must be local or cloud", quoted(t))
	}
	if p := c.QueryParam("policy"); p != "" {
		return policy.Known(p)
	}
	return nil
}

// readObject reads the body of a request: a JSON object with known keys, each at most once.
func readObject(c echo.Context, known []string) (map[string]json.RawMessage, error) {
	r := c.Request()
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return nil, fmt.Errorf("Content-Type = %s: must be application/json", quoted(r.Header.Get("Content-Type"))) //nolint:staticcheck // begins with a header
	}
	raw, err := io.ReadAll(http.MaxBytesReader(c.Response(), r.Body, maxRequest))
	if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
		return nil, fmt.Errorf("the body has more than %d bytes", long.Limit)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	fields, err := objectOf(raw, known)
	if err != nil {
		return nil, fmt.Errorf("the body is not {%s}: %w", strings.Join(known, ", "), err)
	}
	return fields, nil
}

func objectOf(raw []byte, known []string) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if begin, err := d.Token(); err != nil {
		return nil, syntaxError(err)
	} else if begin != json.Delim('{') {
		return nil, errors.New("must be one JSON object")
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, syntaxError(err)
		}
		key := token.(string) // the decoder accepts only strings as keys
		if !slices.Contains(known, key) {
			return nil, unknown("key", key, known)
		}
		if _, twice := fields[key]; twice {
			return nil, fmt.Errorf("duplicate key %s", key)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, syntaxError(err)
		}
		fields[key] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, syntaxError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("unexpected data after the JSON object")
	}
	return fields, nil
}

func syntaxError(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("unexpected end of input")
	}
	return err
}

// read decodes one field, if present, and reports a value of the wrong type by its key.
func read[T any](p *check.Problems, fields map[string]json.RawMessage, key, kind string, into *T) {
	raw, ok := fields[key]
	if !ok {
		return
	}
	if err := json.Unmarshal(raw, into); err != nil || string(raw) == "null" {
		p.Addf(key, strings.Trim(quoted(string(raw)), `"`), "must be %s", kind)
	}
}
