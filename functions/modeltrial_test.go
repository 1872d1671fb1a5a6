package functions

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/infer"
	"app-offload/functions/infer/modeltest"
)

// reasonsOf returns the reasons of the health, by code.
func reasonsOf(s *Service) map[string]string {
	codes := map[string]string{}
	for _, r := range s.Health().Reasons {
		codes[r.Code] = r.Text
	}
	return codes
}

// A canary that is slower, or whose runs fail, is rolled back automatically. The answers on the bus come from the version in force.
func TestACanaryThatIsSlowOrFailsIsRolledBack(t *testing.T) {
	for name, one := range map[string]struct {
		file func(t testing.TB) []byte
		want string
	}{
		"slow":    {func(t testing.TB) []byte { return modeltest.Slow(t, modeltest.Inputs, 18_000) }, "a run takes"},
		"failing": {func(t testing.TB) []byte { return modeltest.Slow(t, modeltest.Inputs+1, 1) }, "20 of 20 runs failed"}, // it wants longer readings
	} {
		t.Run(name, func(t *testing.T) {
			c := modelConfig(t, nil, "edge")
			c.Models.Canary.Tasks = 20
			bus := &bin{}
			s := open(t, c, bus)
			modeltest.Put(t, c.Models.Directory, "bearing", "2", one.file(t))
			require.NoError(t, s.local.Store().Scan(t.Context()))
			v, on := s.local.Store().Canary("bearing")
			require.True(t, on)
			require.EqualValues(t, "2", v)
			for i := range 25 {
				require.NoError(t, submitOne(t, s, bearing("pump", i, sure)))
				eventually(t, 10*time.Second, "the canary is done, too", func() bool { tasks, _ := s.local.Models(); return tasks == 0 })
			}
			st := s.Status().Models.Canaries
			require.Len(t, st, 1)
			require.Equal(t, infer.TrialRolledBack, st[0].State, "%+v", st[0])
			require.Contains(t, st[0].Reason, one.want)
			require.Contains(t, reasonsOf(s)["modelCanary"], "version 2 of model bearing was rolled back, keeping 1")
			_, on = s.local.Store().Canary("bearing")
			require.False(t, on)
			require.NoError(t, s.local.Store().Scan(t.Context()))
			_, on = s.local.Store().Canary("bearing")
			require.False(t, on, "it stays out")
			for _, r := range bus.all() {
				require.Equal(t, "1", r.Event.Tags["modelVersion"])
			}
			require.Len(t, bus.all(), 25)
		})
	}
}

// A drift of the data from a model's first inputs is reported, while its answers stay as sure as before; a new version begins again.
func TestDriftOfTheDataIsReported(t *testing.T) {
	c := modelConfig(t, nil, "edge")
	c.Models.Canary.Tasks = 0
	bus := &bin{}
	s := open(t, c, bus)
	n := 0
	feed := func(count int, level float64) infer.ClassStats {
		for range count {
			n++
			require.NoError(t, submitOne(t, s, bearing("pump", n, fmt.Sprintf("[%.2f, 0, 0, 0]", level+float64(n*7%11)/20))))
		}
		return s.Status().Models.Classes[0]
	}
	normal := feed(2600, 5) // 500 samples, and four times as many, define what is normal
	require.False(t, normal.Drifted, "%+v", normal)
	require.Empty(t, reasonsOf(s)["drift"])
	drifted := feed(200, 9)
	require.True(t, drifted.Drifted)
	require.Greater(t, drifted.Drift, 8.0)
	require.Contains(t, reasonsOf(s)["drift"], "model bearing of class bearing")
	require.Equal(t, "ok", bus.all()[n-1].Event.Readings[0].Value)

	modeltest.Put(t, c.Models.Directory, "bearing", "2", modeltest.Two(t, 0))
	require.NoError(t, s.local.Store().Scan(t.Context()))
	require.False(t, feed(1, 9).Drifted, "another version has seen nothing else")
	require.Empty(t, reasonsOf(s)["drift"])
}
