package ctl

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/spool"
)

// full is a writer that always fails.
type full struct{}

var errNoRoom = errors.New("no room")

func (full) Write([]byte) (int, error) { return 0, errNoRoom }

// Every verb that writes reports write errors.
func TestAFullOutputIsAnError(t *testing.T) {
	url := service(t, map[string]any{
		apiBase + "/status": statusJSON(t), apiBase + "/decisions?limit=20": `{"decisions":[{"id":7}]}`,
		apiBase + "/decisions/7": `{"decision":{"id":7}}`, apiBase + "/task": `{"action":"PROCESS_LOCALLY"}`,
		apiBase + "/config": `{"Offload":{}}`,
	})
	dir := fill(t, someTasks())
	for _, args := range []string{
		"status -url " + url, "status -json -url " + url, "status -watch -url " + url, "decisions -url " + url, "decisions -json -url " + url,
		"explain 7 -url " + url, "task -size 1 -url " + url, "config live -url " + url, "config live -json -url " + url, "version", "version -json", "keys new", "keys new -request", "config echo " + shipped,
		"config echo -json " + shipped, "config diff " + shipped, "config diff -json " + shipped, "config lint -json " + shipped,
		"spool inspect " + dir, "spool inspect -json " + dir, "spool verify " + dir, "spool verify -json " + dir, "spool export " + dir,
		"config dry-run -feed testdata/feed.jsonl " + shipped, "config dry-run -json -feed testdata/feed.jsonl " + shipped,
		"config dry-run -each -feed testdata/feed.jsonl " + shipped, "spool repair -json " + dir, "spool repair " + dir,
	} {
		var errs strings.Builder
		sh := processShell()
		sh.out, sh.err, sh.terminal = full{}, &errs, false
		require.Equal(t, exitFailed, run(t.Context(), sh, strings.Fields(args)), args)
		require.Contains(t, errs.String(), "no room", args)
	}
}

// Every verb that calls the service shows the reason of an error response.
func TestARefusalIsAnErrorOfEachVerb(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"apiVersion":"v3","message":"not today"}`))
	}))
	defer s.Close()
	for _, args := range []string{"status", "status -acknowledge", "decisions", "explain latest", "explain 7", "task -size 1", "config live"} {
		r := call{}.run(append(strings.Fields(args), "-url", s.URL)...)
		require.Equal(t, exitFailed, r.code, args)
		require.Contains(t, r.err, "not today", args)
		r = call{}.run(append(strings.Fields(args), "-url", "gateway")...)
		require.Equal(t, exitFailed, r.code, args)
		require.Contains(t, r.err, "must be like http://localhost:59740", args)
		r = call{}.run(append(strings.Fields(args), "-url", s.URL, "-token-file", "/does/not/exist")...)
		require.Equal(t, exitFailed, r.code, args)
		require.Contains(t, r.err, "/does/not/exist", args)
	}
}

// A file without the section, or with it under a name that Consul would miss, is read with a remark.
func TestTheSectionIsRemarkedUpon(t *testing.T) {
	for text, want := range map[string]string{
		"Offload: {Node: a}": "", "Writable: {LogLevel: INFO}": "f has no section Offload: all defaults apply",
		"offLoad: {Node: a}": "f:1: section offLoad is read as Offload; spell it so, or Consul and overrides from the environment will miss it",
	} {
		e, err := readConfig("f", []byte(text))
		require.NoError(t, err)
		require.Equal(t, want, strings.Join(e.remarks, "\n"), text)
	}
}

// Only -strict treats remarks as mistakes.
func TestStrictTakesRemarksForMistakes(t *testing.T) {
	for _, c := range []struct {
		flag, text string
		code       int
	}{
		{"-strict", "offload: {Node: a}", exitFailed},
		{"-strict=false", "offload: {Node: a}", exitFine},
		{"-strict", "Offload: {Node: a}", exitFine},
		{"-strict=false", "Offload: {Nod: a}", exitFailed},
	} {
		for _, as := range []string{"-json", "-json=false"} {
			r := call{stdin: c.text}.run("config", "lint", "-no-env", c.flag, as, "-")
			require.Equal(t, c.code, r.code, "%s %s %s: %s", c.flag, as, c.text, r.out)
		}
	}
}

// Every possible fault of a spool has its line.
func TestWhatIsWrongWithASpoolHasItsLine(t *testing.T) {
	plain := overview("/s", &spool.Report{Epoch: "e", State: "whole"})
	require.Equal(t, "spool    /s, epoch e\nstate    whole; 0 appended, 0 done, next sequence 0\nheld     0 records, 0 B; segments on disk 0 B\n", plain)
	r := &spool.Report{
		Epoch: "e", State: stateLost, InUse: true, Saved: time.Unix(0, 0), Torn: 7, Locked: 3, Classes: map[string]int{"a": 1, "b": 2, "c": 2},
		Kept: []string{"1", "2", "3", "4", "5", "6"}, Notes: []string{"note"},
		Damages: []spool.Damage{{File: "x", Offset: 1, Length: 2, Lane: 3, Reason: "bits"}, {File: "y", Seq: 1, Class: "k"}},
	}
	text := overview("/s", r)
	for _, want := range []string{
		"in use by a process", "state    lost, written 1970-01-01 00:00:00 UTC; ", "classes  b 2, c 2, a 1\n", "torn     7 B of an unconfirmed commit", "locked   3 records",
		"! x at 1, 2 bytes, lane 3: bits (unknown record)\n", `(record 1 of class "k")`, "! the state is lost", "! note\n",
		"aside    in /s/quarantine, damaged places found before: 6, 1, 2, 3, 4, 5\n",
	} {
		require.Contains(t, text, want)
		require.NotContains(t, plain, want)
	}
	require.Equal(t, "d: quarantined x at 1, 2 bytes: bits; unknown record, its bytes could not be saved", setAside("d", r.Damages[0]))
	require.Equal(t, `d: quarantined y at 0, 0 bytes: ; record 1 of class "k" is lost, its bytes are in q`, setAside("d", spool.Damage{File: "y", Seq: 1, Class: "k", Kept: "q"}))
}

// 64.0 is an integer; a size of no bytes is 0; the page's key is hidden from its scripts.
func TestSmallThings(t *testing.T) {
	for text, wrong := range map[string]int{"64.0": 0, "64.5": 1, "9007199254740993.0": 0, "1e17": 1} {
		e, err := readConfig("f", []byte("Offload: {Spool: {QuotaMiB: "+text+"}}"))
		require.NoError(t, err)
		require.Len(t, e.problems, wrong, text)
	}
	require.Equal(t, []string{"0", "under 1", "under 1", "1"}, []string{mib(0), mib(1), mib(1<<20 - 1), mib(1 << 20)})
	require.False(t, isTimeout(&net.DNSError{}))
	require.True(t, isTimeout(&net.DNSError{IsTimeout: true}))
	w := httptest.NewRecorder()
	(&proxy{cookie: "c", key: "k"}).admit(w)
	cookie := w.Result().Cookies()[0]
	require.True(t, cookie.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, cookie.SameSite)
}

// With -json every verb with that flag prints a single JSON value and nothing else.
func TestJSONIsAllThatIsPrinted(t *testing.T) {
	url := service(t, map[string]any{
		apiBase + "/status": statusJSON(t), apiBase + "/decisions?limit=20": `{"decisions":[{"id":7}]}`, apiBase + "/decisions?limit=1": `{"decisions":[{"id":7}]}`,
		apiBase + "/decisions/7": `{"decision":{"id":7,"device":"<d>"}}`, apiBase + "/task": `{"action":"PROCESS_LOCALLY"}`, apiBase + "/config": `{"Offload":{"Node":"<n>"}}`,
	})
	dir := fill(t, someTasks())
	for _, args := range []string{
		"status -url " + url, "decisions -url " + url, "explain 7 -url " + url, "explain latest -url " + url, "task -size 1 -url " + url, "config live -url " + url, "version",
		"config echo " + shipped, "config diff " + shipped, "config lint " + shipped, "config dry-run -feed testdata/feed.jsonl " + shipped,
		"spool inspect " + dir, "spool verify " + dir, "spool repair " + dir,
	} {
		r := call{}.run(append(strings.Fields(args), "-json")...)
		require.Equal(t, exitFine, r.code, "%s: %s", args, r.err)
		require.True(t, json.Valid([]byte(r.out)), "%s: %s", args, r.out)
		require.NotContains(t, r.out, `\u003c`, args)
		require.True(t, strings.HasSuffix(r.out, "}\n") || strings.HasSuffix(r.out, "]\n"), args)
	}
	require.Contains(t, call{}.run("config", "live", "-json", "-url", url).out, `"<n>"`)
}

// The optional parts of a status, and the default address without the environment.
func TestLinksAndAddressesAsTexts(t *testing.T) {
	v := &view{}
	require.Equal(t, "DOWN; tasks for the cloud wait in the spool", v.link())
	v.Link.Up = true
	require.Equal(t, "up", v.link())
	v.Link.Goodput, v.Link.RTT, v.Link.RTT95 = 2048, 0.05, 0.1
	require.Equal(t, "up, 2.0 KiB/s, round trip 50.0 ms (95 % within 100.0 ms)", v.link())
	for want, env := range map[string]map[string]string{
		"http://localhost:59740": {"SERVICE_HOST": "", "SERVICE_PORT": ""}, "http://h:59740": {"SERVICE_HOST": "h"}, "http://localhost:7": {"SERVICE_PORT": "7"}, "http://[::1]:7": {"SERVICE_HOST": "::1", "SERVICE_PORT": "7"},
	} {
		require.Equal(t, want, address(&shell{lookup: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}))
	}
	for host, want := range map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true, "10.0.0.1": false, "gateway": false, "": false} {
		require.Equal(t, want, isThisMachine(host), host)
	}
	dir := fill(t, someTasks())
	repaired := call{}.run("spool", "repair", dir)
	require.Equal(t, exitFine, repaired.code)
	require.True(t, strings.HasPrefix(repaired.out, dir+": no damage found\n"+dir+": state and indexes rewritten; "), repaired.out)
	require.Equal(t, 2, strings.Count(repaired.out, "\n"))
}
