package intake

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFilters(t *testing.T) {
	for list, want := range map[string][]string{
		"events/#":                              {"edgex/events/#"},
		" events/device/#, events/#,events/#,":  {"edgex/events/#"},
		"events/device/+/P/#, events/core/#":    {"edgex/events/device/+/P/#", "edgex/events/core/#"},
		"events/device/svc/#,events/device/+/#": {"edgex/events/device/+/#"},
	} {
		have, err := Filters("edgex", list)
		require.NoError(t, err, list)
		require.Equal(t, want, have, list)
	}
	for _, list := range []string{"", " , ", "events/#/device", "events/device#", "events/+x/#", "/events/#", "events//#", "events/\x00"} {
		_, err := Filters("edgex", list)
		require.ErrorContains(t, err, "Trigger.SubscribeTopics = ", list)
	}
	require.Len(t, FilterRemarks("edgex", "edgex/events/#, event/#, events/#"), 2)
}

func TestCovers(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want bool
	}{
		{"#", "a/b", true},
		{"a/#", "a", true},
		{"a/#", "a/b/c", true},
		{"a/#", "a/+/#", true},
		{"a/+", "a/b", true},
		{"a/+", "a/b/c", false},
		{"a/+", "a/#", false},
		{"a/b", "a/+", false},
		{"+/b", "a/b", true},
		{"a/b", "a/b", true},
		{"a/b/#", "a/#", false},
		{"a", "a/b", false},
	} {
		require.Equal(t, row.want, Covers(row.a, row.b), "%s over %s", row.a, row.b)
	}
	require.False(t, MatchTopic("#", "$SYS/x"))
}

func TestFlatSubscriptionsDoNotOverlap(t *testing.T) {
	require.Equal(t, []string{"edgex/events/#"}, Flat([]string{"edgex/events/+/svc/#", "edgex/events/core/#"}))
	require.Equal(t, []string{"edgex/events/device/#", "edgex/events/core/a"}, Flat([]string{"edgex/events/device/+", "edgex/events/core/a"}))
	for _, row := range []struct {
		filter, topic string
		want          bool
	}{
		{"e/+/svc/#", "e/device/svc/P", true},
		{"e/+/svc/#", "e/device/svc", true},
		{"e/+/svc/#", "e/device/other/P", false},
		{"e/device/+/+/cam.1/#", "e/device/svc/P/cam/1/S", true}, // as Redis hands it out
		{"e/device/+", "e/device/x", true},
		{"e/device", "e/device/x", false},
		{"e/device/+/Temp", "e/device/a/b/Temp", true},
		{"e/device/+/Temp", "e/device/a/b/Temperature", false},
	} {
		require.Equal(t, row.want, Selects([]string{row.filter}, row.topic), "%s on %s", row.filter, row.topic)
	}
}
