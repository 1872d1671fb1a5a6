package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// idleNode fakes an idle machine, whatever the real one does: predictions are then the default ones.
func idleNode(t *testing.T) (env string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"stat":    "cpu  0 0 0 100000 0 0 0 0 0 0\ncpu0 0 0 0 100000 0 0 0 0 0 0\n",
		"meminfo": "MemTotal: 8000000 kB\nMemFree: 6000000 kB\nMemAvailable: 7000000 kB\nBuffers: 0 kB\nCached: 0 kB\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return "OFFLOAD_HOST_PROCFSROOT=" + dir
}

// python runs a script against the service, with Debian's interpreter and only its standard library.
func (e *edge) python(args ...string) (stdout string, err error) {
	e.t.Helper()
	const interpreter = "/usr/bin/python3"
	if _, err := os.Stat(interpreter); err != nil {
		require.Empty(e.t, os.Getenv("CI"), "CI has to install python3")
		e.t.Skip("python3 is not installed")
	}
	cmd := exec.Command(interpreter, append([]string{"-E", "-S", "-B"}, args...)...) // #nosec G204 -- the test's own script
	cmd.Dir = "../../res/python"
	cmd.Env = append(os.Environ(), "APP_OFFLOAD_URL="+strings.TrimSuffix(e.api, base))
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err = cmd.Run(); err != nil {
		e.t.Logf("python: %v: %s", err, problems.String())
	}
	return out.String() + problems.String(), err
}

// The well-known script runs with only its import changed: tasks that fit stay local, tasks that would be late leave.
func TestPythonClient(t *testing.T) {
	t.Parallel()
	e := newEdge(t, idleNode(t), "OFFLOAD_WRITABLE_SCORE_MCYCLESPERKB=0.024") // 0.4 ms a KB, on which the script's numbers rest
	e.start()
	e.await("decisions see the link up", func() bool {
		resp, err := http.Post(e.api+"/task", "application/json", strings.NewReader(`{"dataSize":1,"deadline":1000,"policy":"cloud"}`))
		require.NoError(t, err)
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(answer), `"action":"cloud"`)
	})
	out, err := e.python("factory.py")
	require.NoError(t, err, out)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2, out)
	require.Contains(t, lines[0], "{'task_id': 1, 'action': 'local', 'time_used': 80}")
	require.Contains(t, lines[1], "{'task_id': 2, 'action': 'cloud', 'time_used': ")

	for _, c := range []struct {
		what, script, want string
		fails              bool
	}{
		{"the estimate is the node's", `print(estimate_local_processing_time(1000, node=node))`, "400", false},
		{"a policy of the node's own", `print(scheduler.dispatch({"data_size": 1}, policy="cloud")["action"])`, "cloud", false},
		{"a decision can be asked about", `print(node.explain(scheduler.dispatch({"data_size": 1}, "edge").decision)["policy"])`, "edge", false},
		{"the status", `print(node.status()["counts"]["balance"])`, "0", false},
		{"an unknown policy", `scheduler.dispatch({"data_size": 1}, "luck")`, "use one of weighted", true},
		{"a policy with a third way", `scheduler.register_policy("x", lambda t: "moon"); scheduler.dispatch({"data_size": 1}, "x")`, `must answer "local" or "cloud"`, true},
		{"a task without a size", `scheduler.dispatch({"deadline": 1})`, "no data_size", true},
		{"a node that is not there", `EdgeNode(url="http://127.0.0.1:1").status()`, "is app-offload running there?", true},
	} {
		out, err := e.python("-c", "import sys; sys.path.insert(0, '.')\nfrom app_offload import *\nnode = EdgeNode(); scheduler = TaskScheduler(node)\n"+c.script)
		require.Equal(t, c.fails, err != nil, "%s: %s", c.what, out)
		require.Contains(t, out, c.want, c.what)
	}
}
