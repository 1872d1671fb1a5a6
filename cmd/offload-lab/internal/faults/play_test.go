package faults

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// played runs a scenario fast, with programs that only answer: nothing ever waits or is dropped, which the bounds must detect.
func played(t *testing.T, name string, files map[string]string) (r *ScenarioReport, dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	r, err := RunScenario(t.Context(), ScenarioConfig{
		Name: name, Bin: fakes(t), Res: "../../../../res", Dir: dir, Seed: 5, Duration: 20 * time.Second, Rate: 100, Out: t.Output(), pace: 50,
	})
	require.Error(t, err)
	require.Equal(t, name, r.Scenario)
	require.Equal(t, uint64(5), r.Seed)
	require.InDelta(t, 100, r.Rate, 0)
	require.Positive(t, r.Published)
	require.Positive(t, r.Drain)
	require.Zero(t, r.Lost+r.Doubled)
	require.Greater(t, r.Seconds, 0.3)
	require.Less(t, r.Seconds, 20.0)
	for _, u := range []Usage{r.Before, r.During} {
		require.Positive(t, u.RSS)
		require.LessOrEqual(t, u.Mean, u.RSS)
		require.Equal(t, 7, u.Goroutines)
		require.Positive(t, u.Rate)
		require.Positive(t, u.Published)
	}
	return r, dir
}

// bound finds a bound of a report.
func bound(t *testing.T, r *ScenarioReport, what string) Bound {
	t.Helper()
	for _, b := range r.Bounds {
		if b.What == what {
			return b
		}
	}
	require.Fail(t, "no bound "+what)
	return Bound{}
}

func TestAnOutageInWhichNothingWaitsWasNone(t *testing.T) {
	r, dir := played(t, "dead", nil)
	require.Contains(t, strings.Join(r.Broken, ";"), "tasks that wait at the end, times those that came in is 0 and must be at least 0.9")
	require.GreaterOrEqual(t, r.Stored, r.Published)
	log, err := os.ReadFile(filepath.Join(dir, "edge.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud OFFLOAD_SPOOL_QUOTAMIB=136", "room for 110 s of 100 events a second")
}

func TestAConsumerThatIsGoneMakesDrops(t *testing.T) {
	r, _ := played(t, "gone", map[string]string{"stats.json": `{"gaps":0,"gone":{"expired":3,"full":0,"unknown":2}}`})
	for what, have := range map[string]float64{
		"events of class camera that expired": 0, "events of class vibration that made room": 0, "events of class default that made room": 0,
		"gaps explained as expired that are none, or the other way round": 3, "gaps explained as full that are none, or the other way round": 0,
		"gaps whose reason was forgotten": 2,
	} {
		require.InDelta(t, have, bound(t, r, what).Have, 0, what)
	}
	require.NotContains(t, strings.Join(r.Broken, ";"), "explained as full")
	require.Contains(t, strings.Join(r.Broken, ";"), "the log does not say what to do")
	require.Less(t, bound(t, r, "MiB on disk").Have, 1.0)
}

// stubs are the programs that create and break disks. They record their calls.
func stubs(t *testing.T) (calls func() string) {
	t.Helper()
	bin, log := t.TempDir(), filepath.Join(t.TempDir(), "calls")
	for name, does := range map[string]string{"mkfs.ext4": "", "mount": "", "umount": "", "fallocate": `touch "$3"`} {
		script := "#!/bin/sh\necho \"$(basename \"$0\") $*\" >>" + log + "\n" + does + "\n"
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700)) //nolint:gosec // a program
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return func() string {
		raw, err := os.ReadFile(log)
		require.NoError(t, err)
		return string(raw)
	}
}

func TestAFullDiskIsFilledAndEmptied(t *testing.T) {
	calls := stubs(t)
	r, dir := played(t, "full-disk", map[string]string{"status.json": `{"counts":{"accepted":9,"local":9}}`})
	image, at := filepath.Join(dir, "disk.img"), filepath.Join(dir, "spool")
	require.Equal(t, "mkfs.ext4 -q -F -m 0 "+image+"\nmount -o loop "+image+" "+at+"\nfallocate -l 52009369 "+filepath.Join(at, "filler")+"\numount "+at+"\n", calls())
	require.InDelta(t, 9, bound(t, r, "events done on the node").Have, 0)
	require.InDelta(t, 0, bound(t, r, "tasks that the spool took once there was room").Have, 0)
	require.NoFileExists(t, filepath.Join(at, "filler"))
	info, err := os.Stat(image)
	require.NoError(t, err)
	require.Equal(t, int64(diskSize), info.Size())
}

func TestAReadOnlyDiskIsMended(t *testing.T) {
	calls := stubs(t)
	r, dir := played(t, "read-only", map[string]string{"status.json": `{"counts":{"accepted":9,"local":9,"dropped":{"full":1}}}`})
	image, at := filepath.Join(dir, "disk.img"), filepath.Join(dir, "spool")
	mount := "mount -o loop " + image + " " + at + "\n"
	require.Equal(t, "mkfs.ext4 -q -F -m 0 "+image+"\n"+mount+"mount -o remount,abort "+at+"\numount "+at+"\n"+mount+"umount "+at+"\n", calls())
	broken := strings.Join(r.Broken, ";")
	require.Contains(t, broken, "the disk is read-only, and app-offload says that it is ready")
	require.Contains(t, broken, "tasks were dropped, although the class does them on the node")
	require.InDelta(t, 18, bound(t, r, "events done on the node").Have, 0, "before the restart and after it")
}

// The backlog is what app-offload would have written: each event once, in order, in groups.
func TestTheBacklogIsAsItWouldHaveBeenWritten(t *testing.T) {
	s := &stage{system: fake(t, 1).system, result: &ScenarioReport{}, scenario: scenario{records: 2500, rate: 4000, duration: time.Second}}
	require.NoError(t, inTurn(t.Context(), s.stopEdge, s.fill))
	require.Equal(t, []int{1, 2501}, []int{s.database.from, s.database.to})
	require.Equal(t, 2501, s.publisher.accepted())
	next := 1
	_, err := spool.Export(s.edge.Load().Spool(), func(r spool.Record) error {
		tk, err := task.Decode(r.Payload)
		require.NoError(t, err)
		require.Equal(t, s.publisher.id(next), tk.EventID)
		require.Equal(t, s.publisher.raw(next), tk.Data)
		require.Equal(t, []any{5, "default", task.JSON, 1, "cloud"}, []any{r.Lane, r.Class, tk.Encoding, tk.Of, tk.Policy})
		next++
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 2501, next)
	require.NoError(t, os.RemoveAll(s.edge.Load().Spool())) // the fake one knows no spool
	require.Equal(t, 514, s.backlogQuota())
	require.NoError(t, inTurn(t.Context(), s.startEdge, s.awaitEdge, s.narrow))
	require.InDelta(t, 100, s.wire, 1, "bytes that an event needs")
	require.InDelta(t, s.wire*4000/0.5, s.width, 1e-9, "twice what fresh events need")
	s.database.from, s.database.to = 0, 1
	p99 := 0.0
	require.NoError(t, inTurn(t.Context(), s.connect, s.besideBacklog(&p99)))
	require.InDelta(t, 0.05, p99, 1e-9)
	require.Equal(t, 1, s.database.inside)
	require.Zero(t, s.left, "nothing more has left meanwhile")
}

// A scenario's defaults of duration, rate and records apply if unset, and a missing program ends it.
func TestAScenarioHasItsOwnSize(t *testing.T) {
	for _, sc := range scenarios() {
		cfg := ScenarioConfig{Name: sc.name, Bin: "/nowhere", Res: "/nowhere", Dir: t.TempDir(), Out: io.Discard}
		require.NoError(t, cfg.Validate())
		if sc.name == "full-disk" || sc.name == "read-only" {
			continue
		}
		r, err := RunScenario(t.Context(), cfg)
		require.ErrorContains(t, err, "/nowhere")
		require.InDelta(t, sc.rate, r.Rate, 0)
	}
	for _, cfg := range []ScenarioConfig{{Name: "flood"}, {Duration: -1}, {Records: -1}} {
		require.Error(t, cfg.Validate())
	}
	require.NoError(t, (&ScenarioConfig{}).Validate())
}

// A run continues until enough kills, checks every few rounds, and prints a line for each round.
func TestARunOfRounds(t *testing.T) {
	var out strings.Builder
	r, err := Run(t.Context(), Config{
		Bin: fakes(t), Res: "../../../../res", Dir: t.TempDir(), Seed: 4, Rounds: 3, EdgeKills: 2, CloudKills: 2, KillRounds: 1, CheckEvery: 2, Rate: 1e-3, Out: &out,
		Kinds: []string{"kill-edge", "kill-cloud", "cut", killsWork}, pace: 1000,
	})
	require.NoError(t, err, out.String())
	require.GreaterOrEqual(t, r.Rounds, 3)
	require.GreaterOrEqual(t, r.Kills.Edge, 2)
	require.GreaterOrEqual(t, r.Kills.Cloud, 2)
	require.Equal(t, r.Rounds, r.Faults["kill-edge"]+r.Faults["kill-cloud"]+r.Faults["cut"]+r.Faults[killsWork])
	require.Equal(t, r.Rounds-r.Faults["cut"], r.KillRounds)
	require.Equal(t, r.Rounds, strings.Count(out.String(), "round "))
	checks := r.Rounds/2 + 1 // and one at the end
	require.Equal(t, checks*stretch, r.Ordered)
	require.Equal(t, checks*stretch+1, r.Accepted)
	require.Equal(t, []int{r.Accepted, r.Accepted, 0, 0, 0}, []int{r.Stored, r.Answers, r.Lost, r.Doubled, r.OutOfOrder})
	require.Positive(t, r.Asked)

	_, err = Run(t.Context(), Config{Kinds: []string{"luck"}})
	require.ErrorContains(t, err, "no kind")
	cut, stop := context.WithCancel(t.Context())
	stop()
	_, err = Run(cut, Config{Bin: fakes(t), Res: "../../../../res", Dir: t.TempDir(), Rounds: 1, CheckEvery: 1, Rate: 1e-3, Out: io.Discard, Quick: true, pace: 1000, Kinds: []string{"cut"}})
	require.ErrorIs(t, err, context.Canceled)
}
