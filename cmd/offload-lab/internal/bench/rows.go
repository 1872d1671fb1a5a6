package bench

import (
	"fmt"
	"slices"
	"strings"
)

// variation is a row of the documents' table: its differences from the options, for floor and service alike.
type variation struct {
	name     string
	policy   string
	readings int // per event, 0 means one
	size     int // bytes of the value of an event's first reading, 0 means a Float64
	rate     int // events per second
	procs    int // GOMAXPROCS of the subject
	quota    int // of the subject, in percent of one core
}

var variations = []variation{
	{name: "maximum"},
	{name: "5-readings", readings: 5},
	{name: "4-KiB", size: 4 << 10},
	{name: "1k/s", rate: 1000},
	{name: "5k/s", rate: 5000},
	{name: "40k/s", rate: 40_000},
	{name: "edge", policy: edgePolicy},
	{name: "one-proc", procs: 1},
	{name: "fifth-core", quota: 20, rate: 200},
}

// variationsOf resolves a list of names; "" means none and "all" every row.
func variationsOf(list string) ([]variation, error) {
	if list == "" {
		return []variation{{}}, nil
	}
	if list == "all" {
		return variations, nil
	}
	var some []variation
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(variations, func(v variation) bool { return v.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-rows %q: must be all or some of %s", name, strings.Join(rowNames(), ","))
		}
		some = append(some, variations[i])
	}
	return some, nil
}

func rowNames() (names []string) {
	for i := range variations {
		names = append(names, variations[i].name)
	}
	return names
}

// mostSeconds is the maximum duration of a fixed-rate case in s, regardless of the number of events.
const mostSeconds = 20
