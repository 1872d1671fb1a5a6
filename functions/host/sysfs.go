package host

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// sensors are the sysfs files of this node, searched once and then read at every sample.
type sensors struct {
	frequency []string // kHz, one file per core
	energy    []zone
	supplies  []supply
}

// zone is a RAPL counter of one processor package.
type zone struct {
	counter string  // the file, µJ
	wrap    float64 // µJ at which the counter wraps, 0 if unknown
}

// supply is a battery, or an external power input.
type supply struct {
	dir     string
	battery bool
}

// findSensors searches the sensors. Finding none is no error.
func findSensors(root string) sensors {
	found := sensors{frequency: glob(root, "devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")}
	if found.frequency == nil {
		found.frequency = glob(root, "devices/system/cpu/cpufreq/policy*/scaling_cur_freq")
	}
	found.energy = findZones(root)
	for _, dir := range glob(root, "class/power_supply/*") {
		if s, ok := findSupply(dir); ok {
			found.supplies = append(found.supplies, s)
		}
	}
	return found
}

// findZones selects the counters of whole packages. Sub-zones (cores, uncore) are contained in their package, "psys" contains all of them, and the
// same package may be listed twice, by MSR and by MMIO: each would be counted twice.
func findZones(root string) []zone {
	var zones []zone
	seen := map[string]bool{}
	for _, dir := range glob(root, "class/powercap/*") {
		name := text(filepath.Join(dir, "name"))
		if !strings.HasPrefix(name, "package") || seen[name] {
			continue
		}
		seen[name] = true
		wrap, _ := number(filepath.Join(dir, "max_energy_range_uj"))
		zones = append(zones, zone{counter: filepath.Join(dir, "energy_uj"), wrap: wrap})
	}
	return zones
}

// findSupply skips supplies that do not feed the node itself: a supply of scope "Device" is the battery of a mouse or a pen.
func findSupply(dir string) (supply, bool) {
	if text(filepath.Join(dir, "scope")) == "Device" {
		return supply{}, false
	}
	switch text(filepath.Join(dir, "type")) {
	case "Battery", "UPS":
		return supply{dir, true}, true
	case "Mains", "USB":
		return supply{dir, false}, true
	}
	return supply{}, false
}

// megahertz returns the mean over the cores, 0 if unknown.
func (s *sensors) megahertz() float64 {
	total, n := 0.0, 0
	for _, file := range s.frequency {
		if khz, ok := number(file); ok {
			total, n = total+khz, n+1
		}
	}
	if n == 0 {
		return 0
	}
	return total / float64(n) / 1000
}

// battery reports whether the node runs on battery, and the mean charge of its batteries in percent, NaN without one.
func (s *sensors) battery() (onBattery bool, charge float64) {
	total, n, discharging, mains, online := 0.0, 0, false, false, false
	for _, sup := range s.supplies {
		if !sup.battery {
			on, ok := number(filepath.Join(sup.dir, "online"))
			mains, online = mains || ok, online || on > 0
			continue
		}
		discharging = discharging || text(filepath.Join(sup.dir, "status")) == "Discharging"
		if c, ok := sup.charge(); ok {
			total, n = total+c, n+1
		}
	}
	if n == 0 {
		return discharging && !online, math.NaN()
	}
	// A battery that reports no status still discharges when all mains are off.
	return !online && (discharging || mains), total / float64(n)
}

// charge returns the battery's level in percent; drivers report it as such, as energy, or as electric charge.
func (s supply) charge() (float64, bool) {
	if c, ok := number(filepath.Join(s.dir, "capacity")); ok {
		return min(max(c, 0), 100), true
	}
	for _, kind := range []string{"energy", "charge"} {
		now, ok := number(filepath.Join(s.dir, kind+"_now"))
		full, okFull := number(filepath.Join(s.dir, kind+"_full"))
		if ok && okFull && full > 0 {
			return percent(now / full), true
		}
	}
	return 0, false
}

// powerMeter turns energy counters into power.
type powerMeter struct {
	last map[string]float64 // µJ by counter
	at   time.Time
}

// watts returns the mean power of all zones since the previous call. It is NaN on the first call or if a counter is unreadable: the power of half of
// the packages would be wrong, not approximate.
func (m *powerMeter) watts(zones []zone, now time.Time) float64 {
	before, seconds := m.last, now.Sub(m.at).Seconds()
	m.last, m.at = make(map[string]float64, len(zones)), now
	total := 0.0
	for _, z := range zones {
		joules, ok := z.joules(before, m.last)
		if !ok {
			total = math.NaN()
			continue // the other counters are still noted for the next call
		}
		total += joules
	}
	if len(zones) == 0 || seconds <= 0 {
		return math.NaN()
	}
	return total / seconds
}

// joules reads the counter, notes it in now and returns the energy spent since before. A counter that went back has wrapped, at most once between two
// samples: at 65 W it takes an hour to wrap.
func (z zone) joules(before, now map[string]float64) (float64, bool) {
	count, ok := number(z.counter)
	if !ok {
		return 0, false
	}
	now[z.counter] = count
	last, known := before[z.counter]
	if !known {
		return 0, false
	}
	spent := count - last
	if spent < 0 {
		spent += z.wrap
	}
	return spent / 1e6, spent >= 0
}

func glob(root, pattern string) []string {
	// The pattern is constant and well-formed, so Glob fails only if root itself contains pattern characters, and then finds nothing.
	files, _ := filepath.Glob(filepath.Join(root, pattern))
	return files
}

func text(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func number(file string) (float64, bool) {
	v, err := strconv.ParseFloat(text(file), 64)
	return v, err == nil && !math.IsNaN(v) && !math.IsInf(v, 0)
}
