package functions

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sysfs is a fake sysfs with a RAPL counter, and cores of 1,000–2,000 MHz.
type sysfs struct {
	t    *testing.T
	root string
}

func newSysfs(t *testing.T) sysfs {
	s := sysfs{t, t.TempDir()}
	s.put("class/powercap/intel-rapl:0/name", "package-0")
	s.put("class/powercap/intel-rapl:0/max_energy_range_uj", "1000000000000000")
	s.put("class/powercap/intel-rapl:0/energy_uj", "0")
	s.put("devices/system/cpu/cpufreq/policy0/cpuinfo_min_freq", "1000000")
	s.put("devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "2000000")
	s.put("devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1500000")
	return s
}

func (s sysfs) put(file, text string) {
	path := filepath.Join(s.root, file)
	require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o750))
	require.NoError(s.t, os.WriteFile(path, []byte(text+"\n"), 0o600))
}

// If power is measured, energy is too: that of the outcome, and that of the prediction.
func TestMeasuredEnergyIsTheOutcomes(t *testing.T) {
	fake := newSysfs(t)
	cfg := testConfig(t, nil, "edge")
	cfg.Host.SysfsRoot, cfg.Host.Interval = fake.root, "100ms"
	s := open(t, cfg, &bin{})
	takeIn(t, s, "d", 1)
	configured := s.Decisions(1, nil)[0]
	require.InDelta(t, configured.Estimate.LocalEnergy, configured.Outcome.Energy, 1e-12)
	s.Start()
	looks := 1
	eventually(t, time.Minute, "a power is measured", func() bool {
		looks++
		const joules = 1_000_000 // at each reading, about a megawatt: it cannot be mistaken for the model's
		fake.put("class/powercap/intel-rapl:0/energy_uj", fmt.Sprint(looks*joules*1_000_000))
		if !(s.host.State().Watts > 0) {
			return false
		}
		takeIn(t, s, "d", looks)
		e := s.Decisions(1, nil)[0]
		return e.Outcome.Energy > 1000*configured.Outcome.Energy && e.Estimate.LocalEnergy > 1000*configured.Estimate.LocalEnergy
	})
}

func TestGovernorRunsWithTheService(t *testing.T) {
	fake := newSysfs(t)
	cfg := testConfig(t, nil, "edge")
	cfg.Host.SysfsRoot, cfg.Host.Governor, cfg.Host.Interval = fake.root, true, "100ms"
	s := open(t, cfg, &bin{})
	require.Equal(t, "acting", s.Status().Policies.Governor.State)
	s.Start()
	file := filepath.Join(fake.root, "devices/system/cpu/cpufreq/policy0/scaling_max_freq")
	eventually(t, time.Minute, "the bound is set", func() bool {
		raw, err := os.ReadFile(file)
		return err == nil && string(raw) != "1500000\n"
	})
	require.NoError(t, s.Stop())
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "2000000\n", string(raw), "all of it is returned")
	plain := open(t, testConfig(t, nil, "edge"), &bin{})
	require.Nil(t, plain.Status().Policies.Governor, "off by default")
}
