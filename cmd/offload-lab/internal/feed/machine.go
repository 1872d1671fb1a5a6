package feed

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"app-offload/functions/host"
)

// machine is this computer as one device with a source for each of its vital signs, once per second each. A machine without a thermometer has no
// temperature source.
func machine(seed uint64, node host.Source) []Source {
	vitals := []struct {
		source string
		read   func(host.Vitals, *host.State) []Reading
	}{
		{"Cpu", cpu}, {"Memory", memory}, {"Disk", disk}, {"Network", network}, {"Temperature", temperature},
	}
	if math.IsNaN(node.State().Temperature) {
		vitals = vitals[:4]
	}
	all := make([]Source, len(vitals))
	for i, s := range vitals {
		rng := rand.New(rand.NewPCG(seed, uint64(10+i)))
		all[i] = &vital{device{"device-host", "Host-Metrics", "gateway", s.source, rng}, node, s.read}
	}
	return all
}

type vital struct {
	device
	node host.Source
	read func(host.Vitals, *host.State) []Reading
}

func (v *vital) Interval() time.Duration { return time.Second }

// Next reports the readable figures; an unreadable figure stays 0, as in EdgeX's own system-metrics services.
func (v *vital) Next(at time.Time) Event {
	now, _ := host.ReadVitals()
	return v.event(at, v.read(now, v.node.State())...)
}

func cpu(v host.Vitals, s *host.State) []Reading {
	return []Reading{float("CpuBusy", "%", v.CPU), float("CpuFrequency", "MHz", s.MHz), float("Load1", "", v.Load1)}
}

func memory(v host.Vitals, _ *host.State) []Reading {
	return []Reading{unsigned("MemoryUsed", "By", v.MemoryUsed), float("MemoryShare", "%", v.Memory)}
}

func unsigned(resource, units string, v uint64) Reading {
	return Reading{Resource: resource, Type: "Uint64", Units: units, Value: fmt.Sprint(v)}
}

func disk(v host.Vitals, _ *host.State) []Reading {
	return []Reading{float("DiskShare", "%", v.Disk), unsigned("DiskRead", "By", v.DiskRead), unsigned("DiskWritten", "By", v.DiskWritten)}
}

func network(v host.Vitals, _ *host.State) []Reading {
	return []Reading{unsigned("NetReceived", "By", v.NetReceived), unsigned("NetSent", "By", v.NetSent)}
}

func temperature(_ host.Vitals, s *host.State) []Reading {
	return []Reading{float("Temperature", "Cel", s.Temperature)}
}
