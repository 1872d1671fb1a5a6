package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// A request for help prints examples and every option of the SDK, and starts no service.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"-h", "--h", "-help", "--help"} {
		cmd := exec.Command(os.Args[0], flag)
		cmd.Env = append(os.Environ(), beService+"=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err)
		for _, want := range []string{"Examples:", "-cp=consul.http://localhost:8500 --registry", "/api/v3/offload/ui", "--configProvider", "--overwrite", "--serviceKey"} {
			require.Contains(t, string(out), want)
		}
	}
}
