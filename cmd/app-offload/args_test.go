package main

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/version"
)

// Arguments that the SDK would ignore, with all that follow them, are rejected by name; all known ones are accepted.
func TestArgumentsAreUnderstoodOrRefused(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		done bool
		want string // on the output, or the error output
	}{
		{nil, 0, false, ""},
		{[]string{"-cp=consul.http://localhost:8500", "--registry", "-o"}, 0, false, ""},
		{[]string{"--configProvider", "-r"}, 0, false, ""},
		{[]string{"-cc", "common.yaml", "-cd=res", "-sk", "app-offload-2", "-p", "x", "-d", "-s", "-rsh=a,b,c"}, 0, false, ""},
		{[]string{"version"}, 0, true, version.Line("app-offload")},
		{[]string{"--version"}, 0, true, version.Line("app-offload")},
		{[]string{"-version"}, 0, true, version.Line("app-offload")},
		{[]string{"verison"}, 2, true, `unknown argument "verison"; did you mean version?`},
		{[]string{"version", "please"}, 2, true, "version takes no other arguments; see"},
		{[]string{"-r", "version"}, 2, true, "version takes no other arguments; see"},
		{[]string{"help"}, 2, true, `unknown argument "help"; did you mean -h?; see`},
		{[]string{"-cp", "consul.http://localhost:8500", "-r"}, 2, true, `write -cp=consul.http://localhost:8500`},
		{[]string{"-r", "status"}, 2, true, `unknown argument "status"`},
		{[]string{"--regsitry"}, 2, true, `unknown option -regsitry; did you mean registry?`},
		{[]string{"-cd"}, 2, true, "flag needs an argument: -cd"},
		{[]string{"-o=maybe"}, 2, true, "maybe"},
	} {
		var out, problems bytes.Buffer
		code, done := special(c.args, &out, &problems)
		require.Equal(t, c.code, code, c.args)
		require.Equal(t, c.done, done, c.args)
		require.Contains(t, out.String()+problems.String(), c.want, c.args)
		require.Equal(t, c.code == 2, problems.Len() > 0, c.args)
	}
}

// The program prints its version itself and ends, and starts no service on a mistyped word.
func TestVersionStartsNoService(t *testing.T) {
	t.Parallel()
	for arg, code := range map[string]int{"version": 0, "verison": 2} {
		cmd := exec.Command(os.Args[0], arg)
		cmd.Env = append(os.Environ(), beService+"=1")
		out, _ := cmd.CombinedOutput()
		require.Equal(t, code, cmd.ProcessState.ExitCode(), string(out))
		require.NotContains(t, string(out), "level=", "nothing was started")
	}
}
