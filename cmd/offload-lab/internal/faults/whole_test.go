package faults

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/postgres"
)

// A short run of the real harness; `make faults` and `make soak` are the long ones.
func TestTheSystemSurvivesAFewFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the whole system")
	}
	if _, err := Mosquitto(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cfg := Config{
		Bin: programs(t), Res: "../../../../res", Dir: t.TempDir(), Seed: uint64(time.Now().UnixNano()), Rounds: 3, CheckEvery: 3,
		Kinds: []string{"kill-edge", "kill-cloud", "cut", "puback"}, Rate: 200, Out: t.Output(),
	}
	t.Logf("seed %d", cfg.Seed)
	report, err := Run(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, 3, report.Rounds)
	require.Zero(t, report.Lost+report.Doubled)
	require.Positive(t, report.Ordered)
	require.GreaterOrEqual(t, report.Stored, report.Accepted)
}

// A consumer that hangs in a transaction does not block another one on the same PostgreSQL.
func TestTheSystemSurvivesAHungWorker(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the whole system")
	}
	_, err := Mosquitto()
	if _, missing := postgres.Programs(); errors.Join(err, missing) != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err, missing)
		}
		t.Skip(err, missing)
	}
	report, err := Run(t.Context(), Config{
		Bin: programs(t), Res: "../../../../res", Dir: t.TempDir(), Seed: 1, Rounds: 1, CheckEvery: 1, Quick: true,
		Kinds: []string{hung}, Rate: 200, Out: t.Output(),
	})
	require.NoError(t, err)
	require.Equal(t, 1, report.Faults[hung])
	require.Zero(t, report.Lost+report.Doubled+report.OutOfOrder)
	require.Positive(t, report.Ordered)
}

func programs(t *testing.T) string {
	bin := t.TempDir()
	out, err := exec.Command("go", "build", "-o", bin, "app-offload/cmd/app-offload", "app-offload/cmd/offload-cloud").CombinedOutput()
	require.NoError(t, err, string(out))
	return bin
}

// With any kills while answers are in flight, every event has one answer on the MessageBus: on SQLite, where the consumer computes, and on
// PostgreSQL, where a worker does.
func TestEveryEventIsAnsweredOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the whole system")
	}
	for _, seed := range []uint64{2, 3} {
		_, err := Mosquitto()
		if seed%2 == 1 {
			_, missing := postgres.Programs()
			err = errors.Join(err, missing)
		}
		if err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
		report, err := Run(t.Context(), Config{
			Bin: programs(t), Res: "../../../../res", Dir: t.TempDir(), Seed: seed, Rounds: 3, CheckEvery: 3, Quick: true,
			Kinds: []string{killsWork}, Rate: 60, Out: t.Output(),
		})
		require.NoError(t, err)
		require.Zero(t, report.Lost+report.Doubled)
		require.GreaterOrEqual(t, report.Answers, report.Accepted)
	}
}
