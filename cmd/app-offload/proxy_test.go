package main

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/browsertest"
	"app-offload/cmd/offloadctl/ctl"
)

// asTool returns this program, called by the tool's name, as in the image.
func asTool(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	link := filepath.Join(t.TempDir(), ctl.Name)
	require.NoError(t, os.Symlink(self, link))
	cmd := exec.Command(link, args...)
	cmd.Env = append(os.Environ(), beService+"=1")
	return cmd
}

// Called by the other name the program is the tool, which queries the running service.
func TestTheProgramIsTheToolByItsName(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.start()
	address := strings.TrimSuffix(e.api, base)
	for _, c := range []struct{ args, says string }{
		{"status -url " + address, "node n1  ready"},
		{"config live -url " + address, `Node: "n1"`},
		{"config lint ../../res/configuration.yaml", "no mistakes"},
	} {
		out, err := asTool(t, strings.Fields(c.args)...).CombinedOutput()
		require.NoError(t, err, "%s: %s", c.args, out)
		require.Contains(t, string(out), c.says)
	}
}

// secured acts like EdgeX's secure mode in front of a running service: a request without the token is rejected.
func (e *edge) secured(token *atomic.Pointer[string]) string {
	e.t.Helper()
	target, err := url.Parse(strings.TrimSuffix(e.api, base))
	require.NoError(e.t, err)
	pass := httputil.NewSingleHostReverseProxy(target)
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+*token.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		pass.ServeHTTP(w, r)
	}))
	e.t.Cleanup(gate.Close)
	return gate.URL
}

// In secure mode the page comes through `offloadctl ui`: with live numbers and explanations, without the token in it, and it continues by itself when
// a token has expired and the next one is in the file.
func TestPageInSecureMode(t *testing.T) {
	t.Parallel()
	b := browsertest.New(t)
	e := newEdge(t, "OFFLOAD_WRITABLE_POLICY_DEFAULT=random", "OFFLOAD_LOCAL_OPERATORS=summary window=1s")
	e.start()
	e.feed(t)
	var token atomic.Pointer[string]
	file := filepath.Join(t.TempDir(), "jwt")
	issue := func(jwt string) { token.Store(&jwt) }
	write := func(jwt string) { require.NoError(t, os.WriteFile(file, []byte(jwt), 0o600)) }
	issue("eyJhbGciOi.first")
	write("eyJhbGciOi.first")
	tool := asTool(t, "ui", "-url", e.secured(&token), "-token-file", file)
	out, err := tool.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, tool.Start())
	t.Cleanup(func() { _ = tool.Process.Kill() })
	address, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)

	b.Look(1600, "light")
	b.Do(chromedp.Navigate(strings.TrimSpace(address)))
	b.Await("the page is there, without the key in its address", "location.pathname === '"+base+"/ui' && location.search === ''")
	b.Await("all is well", "document.getElementById('state-text').textContent === 'All is well'")
	const accepted = "document.querySelector('#tile-account .sub').textContent"
	before := browsertest.Eval[string](b, accepted)
	b.Await("the account goes on", accepted+" !== '"+before+"'")
	require.False(t, browsertest.Eval[bool](b, "document.documentElement.outerHTML.includes('eyJ')"), "the page does not know the token")
	b.Click("#hold")
	b.Click("#list tr:nth-child(2) .open")
	b.Await("a decision explains itself", "!!document.querySelector('.sentence') && document.querySelector('.sentence').textContent.length > 20")
	b.Run("document.getElementById('detail').close()")

	issue("eyJhbGciOi.second")
	b.Await("the page says that the token has run out, and what to do", "document.getElementById('state-text').textContent === 'Not signed in' && document.getElementById('banners').textContent.includes('write a new JWT into the file')")
	require.False(t, browsertest.Eval[bool](b, "document.getElementById('signin').open"), "the browser could do nothing with one")
	b.Shoot("token-run-out")
	write("eyJhbGciOi.second")
	b.Await("it goes on with the next one", "document.getElementById('state-text').textContent === 'All is well' && !document.body.classList.contains('stale')")
	require.Empty(t, b.Complaints())
	require.NoError(t, tool.Process.Signal(syscall.SIGINT))
	ended := make(chan error, 1)
	go func() { ended <- tool.Wait() }()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		require.Fail(t, "it has not ended")
	}
}
