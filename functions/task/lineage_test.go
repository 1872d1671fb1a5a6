package task

import (
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"
)

// A result is recognised by its tags, whatever types a service in between has given them. An unreadable hop counts as the highest.
func TestTagged(t *testing.T) {
	for name, row := range map[string]struct {
		tags string
		want Lineage
	}{
		"without tags":            {"", Lineage{}},
		"of a device":             {`{"site":"hall"}`, Lineage{}},
		"a name as a value":       {`{"site":"offloadHop"}`, Lineage{}},
		"all three":               {`{"offloadNode":"n","offloadService":"s","offloadHop":"2"}`, Lineage{"n", "s", 2}},
		"the hop as a number":     {`{"offloadService":"s","offloadHop":255}`, Lineage{"", "s", 255}},
		"behind an escape":        {`{"offloadH\u006fp":"1"}`, Lineage{Hop: 1}},
		"the service alone":       {`{"offloadService":"s"}`, Lineage{"", "s", MaxHop}},
		"the hop alone":           {`{"offloadHop":"1"}`, Lineage{Hop: 1}},
		"no hop at all":           {`{"offloadHop":"first","offloadService":7}`, Lineage{Hop: MaxHop}},
		"hop 0":                   {`{"offloadHop":"0"}`, Lineage{Hop: MaxHop}},
		"a hop below 0":           {`{"offloadHop":-4}`, Lineage{Hop: MaxHop}},
		"a hop beyond all":        {`{"offloadHop":"256"}`, Lineage{Hop: MaxHop}},
		"a number beyond all":     {`{"offloadHop":1e300}`, Lineage{Hop: MaxHop}},
		"tags that are no object": {`["offloadHop"]`, Lineage{}},
	} {
		ev := &Event{Encoding: JSON, Tags: []byte(row.tags)}
		require.Equal(t, row.want, ev.Tagged(), name)
	}
	for name, row := range map[string]struct {
		tags map[string]any
		want Lineage
	}{
		"of a device":         {map[string]any{"site": "hall"}, Lineage{}},
		"all three":           {map[string]any{"offloadNode": "n", "offloadService": "s", "offloadHop": "3"}, Lineage{"n", "s", 3}},
		"the hop as a number": {map[string]any{"offloadHop": 4}, Lineage{Hop: 4}},
		"as a float":          {map[string]any{"offloadHop": 5.0}, Lineage{Hop: 5}},
		"beyond all":          {map[string]any{"offloadHop": uint64(1) << 63}, Lineage{Hop: MaxHop}},
	} {
		tags, err := cbor.Marshal(row.tags)
		require.NoError(t, err)
		require.Equal(t, row.want, (&Event{Encoding: CBOR, Tags: tags}).Tagged(), name)
	}
}

// Results belong to classes that take their service's results, on any or on one node; device data never do, and results never to other classes.
func TestClassesTakeResultsByName(t *testing.T) {
	classes, err := NewClasses(map[string]ClassConfig{
		"any":    {MatchResultsOf: "svc"},
		"one":    {MatchResultsOf: "other, n1/far"},
		"narrow": {MatchResultsOf: "svc", MatchResource: "Alarm", Priority: 9},
		"only":   {MatchResultsOf: "partly", MatchResource: "Alarm"},
		"device": {MatchDevice: "d"},
	})
	require.NoError(t, err)
	for _, row := range []struct {
		node, service string
		hop           int
		resources     []string
		want          string // "" for no class
	}{
		{"", "", 0, []string{"Alarm"}, "default"},
		{"n", "svc", 1, nil, "any"},
		{"n", "svc", 1, []string{"x", "Alarm"}, "narrow"},
		{"", "other", 1, []string{"x"}, "one"},
		{"n1", "far", 1, []string{"x"}, "one"},
		{"n2", "far", 1, []string{"x"}, ""},
		{"n1/far", "", 1, []string{"x"}, ""},
		{"", "n1/far", 1, []string{"x"}, "one"},
		{"n1", "fa", 1, []string{"x"}, ""},
		{"n", "unknown", 1, []string{"Alarm"}, ""},
		{"n", "partly", 1, []string{"x"}, ""},
		{"n", "partly", 1, []string{"x", "Alarm", "y"}, "only"},
		{"n", "partly", 1, []string{"Alarm", "x"}, "only"},
		{"", "", 1, []string{"Alarm"}, ""}, // its tags are lost
	} {
		ev := &Event{Device: "results", Lineage: Lineage{Node: row.node, Service: row.service, Hop: row.hop}}
		for _, name := range row.resources {
			ev.Readings = append(ev.Readings, Reading{Resource: name})
		}
		for range 2 { // the second time from the cache
			have := ""
			if class := classes.For(ev); class != nil {
				have = class.Name
			}
			require.Equal(t, row.want, have, "%+v", row)
		}
		if row.want == "only" {
			require.Equal(t, "only", classes.ForResource(ev, "x").Name, "the class that takes the event takes all of it")
		}
	}
	for service, want := range map[string]bool{"svc": true, "partly": true, "unknown": false} {
		require.Equal(t, want, classes.Takes("n", service), service)
	}
	require.False(t, classes.Takes("n2", "far"))
	require.True(t, classes.Takes("n1", "far"))
}

// Among otherwise equal classes, one that takes results by name is the more specific.
func TestAClassForResultsComesFirst(t *testing.T) {
	classes, err := NewClasses(map[string]ClassConfig{"a": {MatchSource: "s"}, "b": {MatchSource: "s", MatchResultsOf: "svc"}, "c": {MatchResultsOf: "svc"}})
	require.NoError(t, err)
	var names []string
	for _, class := range classes.All() {
		names = append(names, class.Name)
	}
	require.Equal(t, []string{"b", "a", "c", DefaultClass}, names)
	classes.Limit(77)
	for _, class := range classes.All() {
		require.Equal(t, 77, class.Largest)
	}
}
