package trace

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
)

// digest changes with any change of a recording.
func digest(set *Set) string {
	var b strings.Builder
	for _, all := range [][]Series{set.Links, set.CPUs, set.RTTs} {
		for _, s := range all {
			sum, weighted, most := 0.0, 0.0, 0.0
			for i, v := range s.Values {
				sum, weighted, most = sum+v, weighted+v*s.Times[i], max(most, v)
			}
			fmt.Fprintf(&b, "%-36s n %d first %.9g %.9g sum %.9g weighted %.9g most %.9g period %.9g\n",
				s.Name, len(s.Values), s.Values[0], s.Values[1], sum, weighted, most, s.Period())
		}
	}
	return b.String()
}

// The recordings of a seed never change: published figures stay comparable.
func TestASeedDrawsWhatItAlwaysDrew(t *testing.T) {
	set := Synthetic(7, 3, 3, 3)
	both := Synthetic(8, 1, 1, 1)
	both.Skipped = []string{"x"}
	both.Add(set)
	require.Len(t, both.Links, 4)
	require.Len(t, both.CPUs, 4)
	require.Len(t, both.RTTs, 4)
	both.Add(&Set{Skipped: []string{"y"}})
	require.Equal(t, []string{"x", "y"}, both.Skipped)
	golden.Require(t, "drawn.golden", digest(both)+"\n"+digest(Vary(set, 5, 3)))
}

// The curve by a search through all of its steps.
func TestACurveIsWhatItsStepsSay(t *testing.T) {
	s := Synthetic(3, 1, 1, 1).Links[0]
	c, err := s.Curve(func(v float64) float64 { return v })
	require.NoError(t, err)
	for i := range s.Times {
		require.Equal(t, s.Values[i], c.At(s.Times[i]), "at step %d", i)
		require.Equal(t, s.Values[i], c.At(s.Times[i]+0.999), "within step %d", i)
		require.Equal(t, s.Values[i], c.At(s.Times[i]+2*c.Period()), "rounds later")
	}
	sum := 0.0
	for i, v := range s.Values {
		require.InDelta(t, sum, c.Integral(s.Times[i]), 1e-6)
		if v > 0 {
			require.InDelta(t, s.Times[i]+0.5, c.Inverse(sum+v/2), 1e-6, "step %d", i)
		}
		sum += v
	}
}

func TestWhatIsNoRecordingIsNamed(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
		read             func(*Set) func(string, string) error
	}{
		{"a.log", "0 1\n", "1 samples", linkOf},
		{"a.log", "0 1\n0 2\n", "sample 2 is not later", linkOf},
		{"a.log", "0 1\n1 -1\n", "sample 2 is -1", linkOf},
		{"a.log", "0 0\n1 0\n", "zero all the time", linkOf},
		{"a.log", "0 1\nx 2\n", "line 2 is not", linkOf},
		{"a.log", "0 1\n1 x\n", "line 2 is not", linkOf},
		{"a.log", "0 1\n1 +Inf\n", "finite", linkOf},
		{"a.log", "0 1\n1 NaN\n", "finite", linkOf},
		{"a.log", "0 1 2\n", "line 1 is not", linkOf},
		{"cpu.csv", "t,v\n2014-02-14 14:30:00,x\n", "line 2 is not", cpuOf},
		{"cpu.csv", "t,v\nnever,1\n", "line 2 is not", cpuOf},
		{"cpu.csv", "t\n2014-02-14 14:30:00\n", "line 2 is not", cpuOf},
		{"cpu.csv", "t,v\n\"", "cpu.csv", cpuOf},
		{"cpu.csv", "", "0 samples", cpuOf},
		{"r.csv", "a,b\n", "has no slices", rttOf},
		{"r.csv", "a\n0.1\nx\n", "slice 2 of a", rttOf},
		{"r.csv", "\"", "r.csv", rttOf},
		{"r.csv", "a\n0.1\n-1\n", "sample 2", rttOf},
	} {
		require.ErrorContains(t, c.read(&Set{})(c.name, c.text), c.want, "%s %q", c.name, c.text)
	}
	for _, name := range []string{"LICENSE", "licence.txt", "README.md", "NOTICE", ".hidden"} {
		require.NoError(t, linkOf(&Set{})(name, "no numbers"), name)
	}
	require.NoError(t, rttOf(&Set{})("r.txt", "no numbers"))
	require.NoError(t, cpuOf(&Set{})("cpu.txt", "no numbers"))
}

func linkOf(s *Set) func(string, string) error {
	return func(name, text string) error { return s.readLink(name, strings.NewReader(text)) }
}

func cpuOf(s *Set) func(string, string) error {
	return func(name, text string) error { return s.readCPU(name, strings.NewReader(text)) }
}

func rttOf(s *Set) func(string, string) error {
	return func(name, text string) error { return s.readRTT(name, strings.NewReader(text)) }
}

func TestASetLacksNothing(t *testing.T) {
	for _, missing := range []func(*Set){
		func(s *Set) { s.Links = nil }, func(s *Set) { s.CPUs = nil }, func(s *Set) { s.RTTs = nil },
	} {
		s := Synthetic(1, 1, 1, 1)
		require.NoError(t, s.Validate())
		missing(s)
		require.ErrorContains(t, s.Validate(), "needs at least one of each")
	}
}

// Slices of round trips last as long as in the published set, and invalid archives are an error.
func TestSlicesLastAndArchivesOpen(t *testing.T) {
	s := &Set{}
	require.NoError(t, rttOf(s)("r.csv", "a\n0.1\n0.2\n0.3\n"))
	require.InDelta(t, 3*3600.0/688, s.RTTs[0].Times[1], 1e-9)
	require.InDelta(t, 2*3*3600.0/688, s.RTTs[0].Times[2], 1e-9)
	require.NoError(t, cpuOf(s)("cpu.csv", "t,v\n2014-02-14 14:30:00,1\n2014-02-14 14:35:00,2\n2014-02-14 14:45:00,3\n2014-02-14 14:45:00,4\n"))
	require.Equal(t, []float64{0, 300, 900, 1500}, s.CPUs[0].Times, "steps are as recorded, unless the clock stood still")
	dir := lay(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "link", "x.tgz"), []byte("no archive"), 0o600))
	_, err := Read(dir)
	require.ErrorContains(t, err, "x.tgz")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "link", "x.tgz"), []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x04\x00\x43\xbe\xb7\xe8\x01\x00\x00\x00"), 0o600))
	_, err = Read(dir)
	require.ErrorContains(t, err, "x.tgz")
	require.NoError(t, os.Remove(filepath.Join(dir, "link", "x.tgz")))
	for _, kind := range []string{"link/tram.log", "rtt/pairs.csv", "nab/half.tar.gz"} {
		dir := lay(t)
		require.NoError(t, os.Remove(filepath.Join(dir, kind)))
		_, err := Read(dir)
		require.ErrorContains(t, err, "needs at least one of each", kind)
	}
}
