package main

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever the start waits for, a signal ends it in order, long before the SDK's minute is over.
func TestASignalStopsTheServiceInEveryPhaseOfItsStart(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and answers nothing
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	unused := freePort(t)
	for name, phase := range map[string]struct {
		args []string
		env  []string
	}{
		"waits for the secret store":    {[]string{"-cd", "../../res", "-cc", "COMMON"}, []string{"EDGEX_SECURITY_SECRET_STORE=true"}},
		"waits for Consul":              {[]string{"-cd", "../../res", "-cp=consul.http://127.0.0.1:" + unused}, nil},
		"waits for the MessageBus":      {[]string{"-cd", "../../res", "-cc", "COMMON"}, nil},
		"waits for the registry":        {[]string{"-cd", "../../res", "-cc", "COMMON", "-r"}, []string{"REGISTRY_PORT=" + unused}},
		"waits for a broken MessageBus": {[]string{"-cd", "../../res", "-cc", "COMMON"}, []string{"MESSAGEBUS_PORT=" + port(silent)}},
	} {
		for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
			t.Run(name+", "+s.String(), func(t *testing.T) {
				t.Parallel()
				e := &edge{t: t, dir: t.TempDir(), port: unused, log: &lockedBuffer{}}
				common := e.writeCommon()
				args := strings.Split(strings.ReplaceAll(strings.Join(phase.args, "\n"), "COMMON", common), "\n")
				cmd := exec.Command(os.Args[0], args...)
				cmd.Env = append(os.Environ(), beService+"=1", "EDGEX_SECURITY_SECRET_STORE=false", "SERVICE_PORT="+freePort(t), "OFFLOAD_SPOOL_DIRECTORY="+e.dir)
				cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0") // the race detector would hold the exit for a second, in which the SDK gives up by itself
				cmd.Env = append(cmd.Env, phase.env...)
				cmd.Stdout, cmd.Stderr = e.log, e.log
				require.NoError(t, cmd.Start())
				t.Cleanup(func() { _ = cmd.Process.Kill() })
				e.await("the start", func() bool { return strings.Contains(e.log.String(), "Starting app-offload") })
				time.Sleep(time.Second) // into the phase
				began := time.Now()
				require.NoError(t, cmd.Process.Signal(s))
				require.NoError(t, cmd.Wait(), e.log.String())
				require.Less(t, time.Since(began), 10*time.Second)
				require.Contains(t, e.log.String(), "stopping during startup", name)
			})
		}
	}
}

// A start that fails ends with code 1 and the reason as its last line, also without a registry to leave.
func TestARefusedStartGivesItsReason(t *testing.T) {
	shipped, err := os.ReadFile("../../res/configuration.yaml")
	require.NoError(t, err)
	broken := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(broken, "configuration.yaml"), bytes.Replace(shipped, []byte("QuotaMiB: 1024"), []byte("QuotaMiB: many"), 1), 0o600))
	for reason, c := range map[string]struct{ dir, env string }{
		"loading the section Offload of the configuration":                    {broken, ""},
		`Offload.Spool.QuotaMiB = \"1\": must be between 16 and 16777216`:     {"../../res", "OFFLOAD_SPOOL_QUOTAMIB=1"},
		"opening the spool in /proc/none: opening spool in /proc/none: mkdir": {"../../res", "OFFLOAD_SPOOL_DIRECTORY=/proc/none"},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			e := &edge{t: t, dir: t.TempDir(), port: freePort(t), noBus: true}
			cmd := exec.Command(os.Args[0], "-cd", c.dir, "-cc", e.writeCommon())
			cmd.Env = append(os.Environ(), beService+"=1", "EDGEX_SECURITY_SECRET_STORE=false", "SERVICE_PORT="+freePort(t), "OFFLOAD_SPOOL_DIRECTORY="+e.dir, c.env)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, 1, exit.ExitCode(), "%s", out)
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			require.Contains(t, lines[len(lines)-1], "app-offload cannot start: ")
			require.Contains(t, lines[len(lines)-1], reason)
		})
	}
}

func port(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// A running service treats a SIGHUP as a SIGTERM.
func TestAHangUpIsAnOrderlyStop(t *testing.T) {
	t.Parallel()
	e := newEdge(t, "OFFLOAD_WRITABLE_POLICY_DEFAULT=edge")
	e.start()
	e.publish(1)
	e.await("done", func() bool { return e.counts().Local == 1 })
	require.NoError(t, e.cmd.Process.Signal(syscall.SIGHUP))
	require.NoError(t, e.cmd.Wait(), e.log.String())
}

// entry is a registration that counts its ends.
type entry int

func (e *entry) Unregister() error { *e++; return nil }

// A start that fails leaves no registration behind: neither one of the SDK's client, nor one of which the SDK returned no client.
func TestAFailedStartLeavesTheRegistry(t *testing.T) {
	leave(nil)
	var one entry
	leave(&one)
	require.EqualValues(t, 1, one)

	asked := make(chan string, 2)
	consul := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.Method + " " + r.RequestURI }))
	defer consul.Close()
	insecure := func(name string) (string, bool) { return "false", name == "EDGEX_SECURITY_SECRET_STORE" }
	unregister([]string{"-cp=consul." + consul.URL}, insecure) // it does not register
	unregister([]string{"-r", "-cp=consul." + consul.URL, "-sk=a/b"}, insecure)
	require.Equal(t, "PUT /v1/agent/service/deregister/a%2Fb", <-asked)
	require.Empty(t, asked)
	consul.Close()
	unregister([]string{"-r", "-cp=consul." + consul.URL}, insecure) // Consul is away
}

func TestRegistryOf(t *testing.T) {
	for _, row := range []struct {
		args    string
		env     map[string]string
		at, key string
	}{
		{"-r -cp=consul.http://c:8500", map[string]string{"EDGEX_SECURITY_SECRET_STORE": "false"}, "http://c:8500", "app-offload"},
		{"--registry --configProvider=consul.http://c:8500 -sk=two", map[string]string{"EDGEX_SECURITY_SECRET_STORE": "false"}, "http://c:8500", "two"},
		{"-r -cp=consul.http://c:8500", nil, "", ""}, // needs a token
		{"-cp=consul.http://c:8500", map[string]string{"EDGEX_SECURITY_SECRET_STORE": "false"}, "", ""},
		{"-r -cp=consul.http://c:8500", map[string]string{"EDGEX_SECURITY_SECRET_STORE": "false", "EDGEX_USE_REGISTRY": "false"}, "", ""},
		{"-r -cc=x", map[string]string{"EDGEX_SECURITY_SECRET_STORE": "false"}, "", ""},
	} {
		at, key := registryOf(strings.Fields(row.args), func(name string) (string, bool) { v, ok := row.env[name]; return v, ok })
		require.Equal(t, row.at, at, row.args)
		require.Equal(t, row.key, key, row.args)
	}
}
