package host

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHottestPlausibleSensorCounts(t *testing.T) {
	tr := newTree(t)
	for i, milli := range []string{"41000", "67500", "-128000", "255000"} { // the last two are inputs wired to nothing
		tr.put(fmt.Sprintf("sys/class/hwmon/hwmon%d/temp1_input", i), milli+"\n")
		tr.put(fmt.Sprintf("sys/class/hwmon/hwmon%d/name", i), "chip\n")
	}
	require.InDelta(t, 67.5, tr.sampler().State().Temperature, 1e-9)
}

func TestThermalZonesWhereThereIsNoHwmon(t *testing.T) {
	tr := newTree(t)
	tr.put("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
	tr.put("sys/class/thermal/thermal_zone0/temp", "48312\n")
	require.InDelta(t, 48.312, tr.sampler().State().Temperature, 1e-9)
}

func TestFrequencyIsTheMeanOfTheCores(t *testing.T) {
	tr := newTree(t)
	tr.put("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1000000\n")
	tr.put("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "3000000\n")
	tr.put("sys/devices/system/cpu/cpu2/cpufreq/scaling_cur_freq", "<unknown>\n") // a core that is off says so
	require.InDelta(t, 2000, tr.sampler().State().MHz, 1e-9)
}

func TestFrequencyByPolicy(t *testing.T) {
	tr := newTree(t)
	tr.put("sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "1500000\n")
	require.InDelta(t, 1500, tr.sampler().State().MHz, 1e-9)
}

// rapl writes one powercap zone with a counter that wraps at 1,000 J.
func (tr tree) rapl(dir, name string, microjoules int) {
	tr.put("sys/class/powercap/"+dir+"/name", name+"\n")
	tr.put("sys/class/powercap/"+dir+"/max_energy_range_uj", "1000000000\n")
	tr.put("sys/class/powercap/"+dir+"/energy_uj", fmt.Sprintln(microjoules))
}

func TestPowerCountsEachPackageOnce(t *testing.T) {
	tr := newTree(t)
	write := func(joules int) {
		tr.rapl("intel-rapl:0", "package-0", joules*1e6)
		tr.rapl("intel-rapl-mmio:0", "package-0", joules*1e6) // the same package by another way
		tr.rapl("intel-rapl:0:0", "core", joules*1e6)         // a part of it
		tr.rapl("intel-rapl:1", "psys", joules*1e6)           // the whole board
		tr.rapl("intel-rapl:2", "package-1", 2*joules*1e6)
	}
	write(100)
	s := tr.sampler()
	require.True(t, math.IsNaN(s.State().Watts), "one reading of a counter is no power")
	write(110)
	require.NoError(t, s.sample(time.Unix(0, s.State().Time).Add(2*time.Second)))
	require.InDelta(t, (10.0+20.0)/2, s.State().Watts, 1e-6)
}

func TestPowerSurvivesTheCounterStartingAgain(t *testing.T) {
	tr := newTree(t)
	tr.rapl("intel-rapl:0", "package-0", 995e6)
	s := tr.sampler()
	at := time.Unix(0, s.State().Time)
	tr.rapl("intel-rapl:0", "package-0", 5e6)
	require.NoError(t, s.sample(at.Add(time.Second)))
	require.InDelta(t, 10, s.State().Watts, 1e-6)

	// An unknown range: the one sample is lost, the next one is right again.
	tr.rapl("intel-rapl:0", "package-0", 900e6)
	tr.put("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "\n")
	s = tr.sampler()
	at = time.Unix(0, s.State().Time)
	tr.put("sys/class/powercap/intel-rapl:0/energy_uj", "3000000\n")
	require.NoError(t, s.sample(at.Add(time.Second)))
	require.True(t, math.IsNaN(s.State().Watts))
	tr.put("sys/class/powercap/intel-rapl:0/energy_uj", "10000000\n")
	require.NoError(t, s.sample(at.Add(2*time.Second)))
	require.InDelta(t, 7, s.State().Watts, 1e-6)
}

func TestPowerIsUnknownWhenOnePackageIsUnreadable(t *testing.T) {
	tr := newTree(t)
	tr.rapl("intel-rapl:0", "package-0", 1e6)
	tr.rapl("intel-rapl:1", "package-1", 1e6)
	s := tr.sampler()
	tr.rapl("intel-rapl:0", "package-0", 2e6)
	tr.remove("sys/class/powercap/intel-rapl:1/energy_uj")
	require.NoError(t, s.sample(time.Unix(0, s.State().Time).Add(time.Second)))
	require.True(t, math.IsNaN(s.State().Watts))
}

func TestBattery(t *testing.T) {
	const none = -1.0
	for _, c := range []struct {
		name   string
		files  map[string]string
		on     bool
		charge float64
	}{
		{"on the mains", map[string]string{"AC/type": "Mains", "AC/online": "1", "BAT0/type": "Battery", "BAT0/capacity": "80", "BAT0/status": "Charging"}, false, 80},
		{"mains gone", map[string]string{"AC/type": "Mains", "AC/online": "0", "BAT0/type": "Battery", "BAT0/capacity": "55", "BAT0/status": "Discharging"}, true, 55},
		{"mains gone, no status", map[string]string{"AC/type": "Mains", "AC/online": "0", "BAT0/type": "Battery", "BAT0/capacity": "55"}, true, 55},
		{"a battery alone", map[string]string{"BAT0/type": "Battery", "BAT0/capacity": "7", "BAT0/status": "Discharging"}, true, 7},
		{"full and a battery alone", map[string]string{"BAT0/type": "Battery", "BAT0/capacity": "100", "BAT0/status": "Full"}, false, 100},
		{"by energy", map[string]string{"BAT0/type": "UPS", "BAT0/energy_now": "25", "BAT0/energy_full": "100"}, false, 25},
		{"by charge, two of them", map[string]string{"A/type": "Battery", "A/charge_now": "1", "A/charge_full": "2", "B/type": "Battery", "B/capacity": "100"}, false, 75},
		{"an energy without a full one, and a charge", map[string]string{"B/type": "Battery", "B/energy_now": "25", "B/charge_now": "1", "B/charge_full": "4"}, false, 25},
		{"a full energy alone, and a charge", map[string]string{"B/type": "Battery", "B/energy_full": "100", "B/charge_now": "1", "B/charge_full": "4"}, false, 25},
		{"a full energy of nothing", map[string]string{"B/type": "Battery", "B/energy_now": "0", "B/energy_full": "0", "B/status": "Discharging"}, true, none},
		{"no level, and mains", map[string]string{"AC/type": "Mains", "AC/online": "1", "B/type": "Battery", "B/status": "Discharging"}, false, none},
		{"mains that report a charge are no battery", map[string]string{"A/type": "Mains", "A/online": "1", "A/status": "Discharging", "A/capacity": "1", "B/type": "Battery", "B/capacity": "60"}, false, 60},
		{"no level", map[string]string{"BAT0/type": "Battery", "BAT0/status": "Discharging"}, true, none},
		{"a mouse's battery is not the node's", map[string]string{"M/type": "Battery", "M/scope": "Device", "M/capacity": "3", "M/status": "Discharging"}, false, none},
		{"fed by USB", map[string]string{"U/type": "USB", "U/online": "1", "B/type": "Battery", "B/capacity": "60", "B/status": "Discharging"}, false, 60},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTree(t)
			for file, content := range c.files {
				tr.put("sys/class/power_supply/"+file, content+"\n")
			}
			now := tr.sampler().State()
			require.Equal(t, c.on, now.OnBattery)
			if c.charge == none {
				require.True(t, math.IsNaN(now.Battery))
				return
			}
			require.InDelta(t, c.charge, now.Battery, 1e-9)
		})
	}
}

func TestSensorsThatAreAddedLaterAreFound(t *testing.T) {
	tr := newTree(t)
	s := tr.sampler()
	tr.put("sys/class/power_supply/BAT0/type", "Battery\n")
	tr.put("sys/class/power_supply/BAT0/capacity", "42\n")
	at := time.Unix(0, s.State().Time)
	for i := range rescan {
		require.NoError(t, s.sample(at.Add(time.Duration(i+1)*time.Second)))
	}
	require.InDelta(t, 42, s.State().Battery, 1e-9)
}

// A reading beyond the range of sensors is ignored, also if it is the only one.
func TestImplausibleSensorsAloneAreNone(t *testing.T) {
	for milli, want := range map[string]float64{"-128000": math.NaN(), "-40000": math.NaN(), "-39000": -39, "0": 0, "149000": 149, "150000": math.NaN(), "255000": math.NaN()} {
		tr := newTree(t)
		tr.put("sys/class/hwmon/hwmon0/temp1_input", milli+"\n")
		tr.put("sys/class/hwmon/hwmon0/name", "chip\n")
		got := tr.sampler().State().Temperature
		require.Equal(t, fmt.Sprint(want), fmt.Sprint(got), milli)
	}
}

// A constant counter is zero power, and not a whole turn of the counter.
func TestNoEnergyIsNoPower(t *testing.T) {
	tr := newTree(t)
	tr.rapl("intel-rapl:0", "package-0", 5e6)
	s := tr.sampler()
	require.NoError(t, s.sample(time.Unix(0, s.State().Time).Add(time.Second)))
	require.InDelta(t, 0, s.State().Watts, 1e-9)
}

// A sensor that reports no number has no temperature, load or charge.
func TestANumberOfASensorIsFinite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "value")
	for content, want := range map[string]bool{"48312\n": true, "-1": true, "inf": false, "-Inf\n": false, "NaN": false, "": false, "N/A": false} {
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		_, ok := number(file)
		require.Equal(t, want, ok, content)
	}
}
