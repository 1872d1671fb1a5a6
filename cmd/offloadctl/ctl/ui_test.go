package ctl

import (
	"bufio"
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// gate simulates app-offload in secure mode: it rejects requests without the token.
type gate struct {
	*httptest.Server
	token atomic.Pointer[string]
	asked chan http.Header
}

func newGate(t *testing.T, token string) *gate {
	t.Helper()
	g := &gate{asked: make(chan http.Header, 100)}
	g.token.Store(&token)
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.asked <- r.Header
		if r.Header.Get("Authorization") != "Bearer "+*g.token.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Set-Cookie", "theirs=1")
		_, _ = io.WriteString(w, `{"you":"asked `+r.Method+" "+r.URL.RequestURI()+`"}`)
	}))
	t.Cleanup(g.Close)
	return g
}

// opened is a running `offloadctl ui`.
type opened struct {
	t       *testing.T
	address string // with the key
	root    string // without
	browser *http.Client
	stderr  *strings.Builder // to be read after the end
	end     func() int
}

// openUI runs the verb until the test ends, and opens its address as a browser does.
func openUI(t *testing.T, environ map[string]string, stdin string, args ...string) *opened {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	out, in := io.Pipe()
	o := &opened{t: t, stderr: &strings.Builder{}}
	sh := &shell{in: strings.NewReader(stdin), out: in, err: o.stderr, now: time.Now, random: rand.Reader}
	sh.lookup = func(name string) (string, bool) { v, ok := environ[name]; return v, ok }
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, sh, append([]string{"ui"}, args...))
		_ = in.Close()
	}()
	o.end = func() int { interrupt(); return <-code }
	t.Cleanup(interrupt)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "%s", o.stderr)
	o.address = strings.TrimSpace(line)
	o.root, _, _ = strings.Cut(o.address, "/?key=")
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	o.browser = &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return o
}

// admit opens the printed address.
func (o *opened) admit() {
	o.t.Helper()
	resp, err := o.browser.Get(o.address)
	require.NoError(o.t, err)
	require.NoError(o.t, resp.Body.Close())
	require.Equal(o.t, http.StatusSeeOther, resp.StatusCode)
	require.Equal(o.t, apiBase+"/ui", resp.Header.Get("Location"), "the key is not in the address any more")
}

// ask sends a request, which edit may change, and returns the answer.
func (o *opened) ask(method, path string, edit ...func(*http.Request)) (int, string, http.Header) {
	o.t.Helper()
	r, err := http.NewRequest(method, o.root+path, nil)
	require.NoError(o.t, err)
	for _, e := range edit {
		e(r)
	}
	resp, err := o.browser.Do(r)
	require.NoError(o.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(o.t, err)
	return resp.StatusCode, string(body), resp.Header
}

func with(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

const jwt = "eyJhbGciOi.canary.one"

// The page's requests reach the service with the token, and without any additions of the browser.
func TestUIBringsTheToken(t *testing.T) {
	g := newGate(t, jwt)
	o := openUI(t, map[string]string{"OFFLOAD_TOKEN": jwt}, "", "-url", g.URL+"/app-offload")
	require.NotEmpty(t, <-g.asked, "the question of the start")
	o.admit()
	code, body, header := o.ask("GET", apiBase+"/ui/data?since=7", with("Authorization", "Bearer other"), with("Referer", "http://x"), with("Origin", o.root))
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, `{"you":"asked GET /app-offload`+apiBase+`/ui/data?since=7"}`, body)
	require.Empty(t, header.Values("Set-Cookie"))
	seen := <-g.asked
	require.Equal(t, "yes", seen.Get(heldElsewhere), "so that the page does not hold it")
	for _, name := range []string{"Cookie", "Referer", "Origin", "X-Forwarded-For"} {
		require.Empty(t, seen.Get(name), name)
	}
	code, _, header = o.ask("GET", "/")
	require.Equal(t, http.StatusSeeOther, code)
	require.Equal(t, apiBase+"/ui", header.Get("Location"))
	require.Equal(t, exitFine, o.end())
	require.NotContains(t, o.stderr.String(), jwt)
}

// Only the browser with the key has access, from no other site and under no other name, and only reading requests pass.
func TestUIRefuses(t *testing.T) {
	g := newGate(t, jwt)
	o := openUI(t, map[string]string{"OFFLOAD_TOKEN": jwt}, "", "-url", g.URL)
	<-g.asked
	data := apiBase + "/ui/data"
	_, key, _ := strings.Cut(o.address, "?")
	for _, path := range []string{"/", data, "/?key=guess", "/?key=", data + "?" + key} {
		code, body, header := o.ask("GET", path)
		require.Equal(t, http.StatusUnauthorized, code, path)
		require.Equal(t, "no-store", header.Get("Cache-Control"))
		require.Equal(t, "nosniff", header.Get("X-Content-Type-Options"))
		require.Contains(t, body, "open the address printed by offloadctl ui")
	}
	o.admit()
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	for _, c := range []struct {
		what, method, path string
		edit               func(*http.Request)
		code               int
	}{
		{"a name that a foreign name server resolves to this address", "GET", data, host("evil.example:80"), http.StatusForbidden},
		{"another address", "GET", data, host("192.168.1.7"), http.StatusForbidden},
		{"another site", "GET", data, with("Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		{"another port of this machine", "GET", data, with("Sec-Fetch-Site", "same-site"), http.StatusForbidden},
		{"another origin", "GET", data, with("Origin", "http://evil.example"), http.StatusForbidden},
		{"a change", "POST", apiBase + "/task", nil, http.StatusMethodNotAllowed},
		{"a change of secrets", "POST", "/api/v3/secret", nil, http.StatusMethodNotAllowed},
		{"EdgeX's own routes", "GET", "/api/v3/config", nil, http.StatusNotFound},
		{"a way around", "GET", apiBase + "/../config", nil, http.StatusNotFound},
		{"a hidden way around", "GET", apiBase + "/%2e%2e/config", nil, http.StatusNotFound},
		{"the folder itself", "GET", apiBase, nil, http.StatusNotFound},
	} {
		edits := []func(*http.Request){}
		if c.edit != nil {
			edits = append(edits, c.edit)
		}
		code, body, _ := o.ask(c.method, c.path, edits...)
		require.Equal(t, c.code, code, "%s: %s", c.what, body)
		require.Contains(t, body, `"message":"`, c.what)
	}
	require.Empty(t, g.asked, "the service has heard of none of this")
	root, err := url.Parse(o.root)
	require.NoError(t, err)
	cookie := o.browser.Jar.Cookies(root)[0]
	for _, name := range []string{"localhost:9000", "[::1]:80", "127.0.0.1"} { // as through ssh -L
		for _, site := range []string{"same-origin", "none"} { // what the page asks for, and an address that was typed
			code, _, _ := o.ask("GET", data, host(name), with("Sec-Fetch-Site", site), with("Cookie", cookie.Name+"="+cookie.Value))
			require.Equal(t, http.StatusOK, code, "%s %s", name, site)
		}
	}
}

// An expired token is reported, and the next one in the file is used without a restart. A file during a write changes nothing.
func TestUIReadsTheTokenAnew(t *testing.T) {
	g := newGate(t, jwt)
	file := filepath.Join(t.TempDir(), "jwt")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write(jwt + "\n")
	o := openUI(t, map[string]string{"OFFLOAD_TOKEN": "of no use beside the file"}, "", "-url", g.URL, "-token-file", file)
	o.admit()
	is := func(want int) string {
		t.Helper()
		code, body, _ := o.ask("GET", apiBase+"/status")
		require.Equal(t, want, code, body)
		return body
	}
	is(http.StatusOK)
	next := "eyJhbGciOi.canary.two"
	g.token.Store(&next)
	require.Contains(t, is(http.StatusUnauthorized), "write a new JWT into the file")
	write(next)
	is(http.StatusOK)
	write("")
	is(http.StatusOK)
	require.NoError(t, os.Remove(file))
	is(http.StatusOK)
	g.Close()
	code, body, header := o.ask("GET", apiBase+"/ui", with("Sec-Fetch-Mode", "navigate"))
	require.Equal(t, http.StatusBadGateway, code)
	require.Contains(t, body, "is the service running?")
	require.Equal(t, "5", header.Get("Refresh"), "the browser reloads the page once the service is back")
	require.Equal(t, exitFine, o.end())
}

// A command can pass the token on the standard input; faults of the service or the token are reported at the start.
func TestUIAtTheStart(t *testing.T) {
	g := newGate(t, jwt)
	o := openUI(t, nil, jwt+"\n", "-url", g.URL, "-token-file", "-")
	o.admit()
	code, _, _ := o.ask("GET", apiBase+"/status")
	require.Equal(t, http.StatusOK, code)
	code, _, _ = o.ask("GET", apiBase+"/status")
	require.Equal(t, http.StatusOK, code, "it is read once")
	require.Equal(t, exitFine, o.end())

	o = openUI(t, nil, "", "-url", g.URL)
	require.Equal(t, exitFine, o.end())
	require.Contains(t, o.stderr.String(), "offloadctl ui: requesting "+g.URL)
	require.Contains(t, o.stderr.String(), "requires a valid JWT; pass one by -token-file or OFFLOAD_TOKEN; serving anyway")

	for _, c := range []struct {
		args, stdin string
		code        int
		says        string
	}{
		{"-listen 0.0.0.0:0", "", exitUsage, "from another machine use ssh -L"},
		{"-listen gateway:80", "", exitUsage, "must be a local address like 127.0.0.1:8000"},
		{"-listen 8000", "", exitUsage, "must be a local address like 127.0.0.1:8000"},
		{"-listen 127.0.0.1:99999", "", exitFailed, "-listen 127.0.0.1:99999: listen tcp"},
		{"-token secret", "", exitUsage, "flag provided but not defined: -token"},
		{"now", "", exitUsage, "takes no arguments"},
		{"-url gateway", "", exitFailed, "must be like http://localhost:59740"},
		{"-token-file /does/not/exist", "", exitFailed, "-token-file: open /does/not/exist"},
		{"-token-file -", " \n", exitFailed, "the standard input is empty"},
		{"-token-file -", "two words of hunter2", exitFailed, "holds no token"},
	} {
		r := call{stdin: c.stdin, random: make([]byte, 16)}.run(append([]string{"ui"}, strings.Fields(c.args)...)...)
		require.Equal(t, c.code, r.code, c.args)
		require.Contains(t, r.err, c.says, c.args)
		require.NotContains(t, r.out+r.err, "hunter2")
	}
}
