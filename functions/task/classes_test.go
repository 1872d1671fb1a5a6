package task

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDefaultsStandForKeysLeftOut(t *testing.T) {
	given, empty := class(t, DefaultClassConfig()), class(t, ClassConfig{})
	for _, c := range []*Class{given, empty} {
		require.True(t, math.IsNaN(c.Critical.Low) && math.IsNaN(c.Critical.High))
		c.Critical = Critical{} // NaN is not equal to itself
	}
	require.Equal(t, given, empty)
	require.Equal(t, &Class{Name: "test", Priority: 5, Complexity: 20, ChunkSize: 256, Whole: true, OnFull: "local", Weight: 1, Value: 5}, given)
}

func TestExplicitNothing(t *testing.T) {
	c := class(t, ClassConfig{Priority: -1, Complexity: -1, ChunkSize: -1})
	require.Zero(t, c.Priority)
	require.Zero(t, c.Complexity)
	require.Zero(t, c.ChunkSize)
	require.Equal(t, 1, c.Value)
}

// Data must not expire before they are useless.
func TestATTLBelowTheAgeOfResults(t *testing.T) {
	for overload, ttl := range map[string]string{"drop": "1s", "": "1s", "expire": "30s"} {
		require.Equal(t, 30*time.Second, class(t, ClassConfig{Overload: overload, TTL: ttl, OverloadAge: "30s"}).Bound)
	}
	_, err := ClassConfig{MatchDevice: "d", Overload: "expire", TTL: "29s", OverloadAge: "30s"}.compile("c", "c")
	require.ErrorContains(t, err, "must not be below the age at which results are of no use, 30s")
}

func TestClassConfigCarriesEveryKey(t *testing.T) {
	c := class(t, ClassConfig{
		MatchDevice: "d*", MatchProfile: "p*", MatchSource: "s*", MatchResource: "*", Priority: 9, Deadline: "1.5s", TTL: "72h",
		Complexity: 7.5, ChunkSize: 8, NeverLeave: true, Policy: "edge", OnFull: "refuse", BacklogOrder: "newest", Weight: 3,
		Operators: "rate", CriticalResource: "A*", CriticalTag: "alarm", CriticalLow: "-3.5", CriticalHigh: " 8 ",
		Overload: "drop", Value: 4, OverloadAge: "9s",
	})
	require.Equal(t, &Class{
		Name: "test", Priority: 9, Deadline: 1500 * time.Millisecond, TTL: 72 * time.Hour, Complexity: 7.5, ChunkSize: 8,
		NeverLeave: true, Policy: "edge", OnFull: "refuse", Newest: true, Weight: 3, Operators: "rate",
		Overload: "drop", Value: 4, Bound: 9 * time.Second,
		Match:    Match{Device: "d*", Profile: "p*", Source: "s*"}, // "*" is no narrower than ""
		Critical: Critical{Resource: "A*", Tag: "alarm", Low: -3.5, High: 8},
	}, c)
}

func TestClassConfigRefuses(t *testing.T) {
	rows := []struct {
		key    string
		config ClassConfig
	}{
		{"Priority", ClassConfig{Priority: 10}},
		{"Priority", ClassConfig{Priority: -2}},
		{"Complexity", ClassConfig{Complexity: 100.5}},
		{"Complexity", ClassConfig{Complexity: -0.5}},
		{"Complexity", ClassConfig{Complexity: math.NaN()}},
		{"ChunkSize", ClassConfig{ChunkSize: -2}},
		{"ChunkSize", ClassConfig{ChunkSize: 1 << 21}},
		{"Weight", ClassConfig{Weight: -1}},
		{"OnFull", ClassConfig{OnFull: "drop"}},
		{"Results", ClassConfig{Results: "both sides"}},
		{"Results", ClassConfig{Results: "cloud", NeverLeave: true}},
		{"Results", ClassConfig{Results: "both", NeverLeave: true}},
		{"BacklogOrder", ClassConfig{BacklogOrder: "random"}},
		{"Deadline", ClassConfig{Deadline: "5"}},
		{"Deadline", ClassConfig{Deadline: "-5s"}},
		{"TTL", ClassConfig{TTL: "soon"}},
		{"MatchDevice", ClassConfig{MatchDevice: "["}},
		{"MatchProfile", ClassConfig{MatchProfile: "["}},
		{"MatchSource", ClassConfig{MatchSource: "["}},
		{"MatchResource", ClassConfig{MatchResource: "a[b"}},
		{"CriticalResource", ClassConfig{CriticalResource: "["}},
		{"MatchDevice", ClassConfig{MatchDevice: "^Camera.*$", NeverLeave: true}}, // matches no device, and so keeps nothing here
		{"MatchProfile", ClassConfig{MatchProfile: "hall "}},
		{"MatchResource", ClassConfig{MatchResource: "[z-a]"}},
		{"Overload", ClassConfig{Overload: "shed"}},
		{"Overload", ClassConfig{Overload: "shed", ReducedClass: "a"}},
		{"Value", ClassConfig{Value: 10}},
		{"OverloadAge", ClassConfig{Overload: "drop"}}, // nothing says when a result is of no use
		{"OverloadAge", ClassConfig{OverloadAge: "soon"}},
		{"TTL", ClassConfig{Overload: "expire", OverloadAge: "1m", TTL: "30s"}}, // data of use would expire in the spool
		{"ReducedClass", ClassConfig{Overload: "reduce", Deadline: "1s"}},
		{"ReducedClass", ClassConfig{Overload: "drop", Deadline: "1s", ReducedClass: "a"}},
		{"CriticalLow", ClassConfig{CriticalLow: "low"}},
		{"CriticalHigh", ClassConfig{CriticalHigh: "NaN"}},
		{"CriticalLow", ClassConfig{CriticalLow: "2", CriticalHigh: "1"}},
	}
	for _, row := range rows {
		err := row.config.Validate()
		require.ErrorContains(t, err, "class."+row.key+" = ", "%+v", row.config)
		require.Equal(t, 1, strings.Count(err.Error(), "class."), "one problem for one mistake: %v", err)
	}
	require.NoError(t, ClassConfig{}.Validate())
	require.NoError(t, DefaultClassConfig().Validate())
}

func TestNewClassesNamesAllProblems(t *testing.T) {
	_, err := NewClasses(map[string]ClassConfig{
		"a":          {MatchDevice: "x", Priority: 10, OnFull: "burn"},
		"b/c":        {MatchDevice: "x"},
		"..":         {MatchDevice: "x"},
		"":           {MatchDevice: "x"},
		"all":        {MatchDevice: "*"},
		DefaultClass: {MatchResource: "x"},
	})
	for _, want := range []string{
		"Classes.a.Priority", "Classes.a.OnFull", `Classes.b/c = "b/c": is not a valid class name`, `Classes... = "..": is not a valid class name`,
		`Classes. = "": is not a valid class name`, "Classes.all = \"\": would match everything", `Classes.default.MatchResource = "x": must be empty`,
	} {
		require.ErrorContains(t, err, want)
	}
	many := map[string]ClassConfig{}
	for i := range maxClasses {
		many[fmt.Sprint("c", i)] = ClassConfig{MatchDevice: "x"}
	}
	_, err = NewClasses(many)
	require.ErrorContains(t, err, "at most 256")
}

func TestClassesOrder(t *testing.T) {
	classes, err := NewClasses(map[string]ClassConfig{
		"profile": {MatchProfile: "p"}, "device": {MatchDevice: "d"}, "source": {MatchSource: "s"}, "resource": {MatchResource: "r"},
		"device-glob": {MatchDevice: "d*", Priority: 9}, "both": {MatchDevice: "d", MatchProfile: "p"},
		"low": {MatchSource: "s", Priority: 1}, "twin": {MatchSource: "s"},
		"results": {MatchResultsOf: "x", Priority: 9}, "results-of": {MatchResultsOf: "x", MatchProfile: "p*"},
	})
	require.NoError(t, err)
	var names []string
	for i, c := range classes.All() {
		require.Equal(t, i, c.Order)
		names = append(names, c.Name)
	}
	// Resource before source before device before profile before results; an exact name before a glob; then priority; then name.
	require.Equal(t, "resource source twin low both device device-glob results-of profile results default", strings.Join(names, " "))
}

func TestClassesFor(t *testing.T) {
	classes, err := NewClasses(map[string]ClassConfig{
		"pumps":     {MatchDevice: "pump-*"},
		"vibration": {MatchResource: "Vib*"},
		"secret":    {MatchResource: "Face", NeverLeave: true, Priority: 1},
		"hidden":    {MatchResource: "Fac*", NeverLeave: true, Priority: 2},
		"shutdown":  {MatchDevice: "pump-*", MatchResource: "Alarm", Priority: 9},
	})
	require.NoError(t, err)
	event := func(device string, resources ...string) *Event {
		ev := &Event{Device: device, Profile: "p", Source: "s"}
		for _, r := range resources {
			ev.Readings = append(ev.Readings, Reading{Resource: r})
		}
		return ev
	}
	rows := []struct {
		why  string
		ev   *Event
		want string
	}{
		{"nothing matches", event("fan-1", "Speed"), "default"},
		{"by device", event("pump-1", "Speed"), "pumps"},
		{"without readings, by device", event("pump-1"), "pumps"},
		{"a resource goes before a device", event("pump-1", "VibX"), "vibration"},
		{"one reading is enough", event("fan-1", "Speed", "VibX"), "vibration"},
		{"the most specific of several", event("pump-1", "VibX", "Alarm"), "shutdown"},
		{"a rule's other fields must match too", event("fan-1", "Alarm"), "default"},
		{"what must not leave holds back its neighbours", event("pump-1", "Alarm", "Face", "VibX"), "secret"},
		{"the most specific of what must not leave", event("pump-1", "Face", "Facade", "Alarm"), "secret"},
		{"wherever it stands", event("pump-1", "Alarm", "Facade", "Face"), "secret"},
		{"also beside nothing else", event("pump-1", "Facade"), "hidden"},
	}
	for range 2 { // the second round is answered by the cache
		for _, row := range rows {
			require.Equal(t, row.want, classes.For(row.ev).Name, row.why)
			require.Equal(t, row.want, classes.ForResource(row.ev, "").Name, row.why)
		}
	}
	require.Equal(t, "pumps", classes.ForResource(event("pump-1", "Speed", "VibX"), "Speed").Name)
	require.Equal(t, "vibration", classes.ForResource(event("pump-1"), "VibX").Name)
}

func TestDefaultClassCanBeConfigured(t *testing.T) {
	classes, err := NewClasses(map[string]ClassConfig{DefaultClass: {MatchDevice: "*", Priority: 2}})
	require.NoError(t, err)
	require.Len(t, classes.All(), 1)
	require.Equal(t, 2, classes.For(&Event{Device: "a/b"}).Priority)
	classes, err = NewClasses(nil)
	require.NoError(t, err)
	require.Equal(t, DefaultClass, classes.For(&Event{}).Name)
}

// TestClassesCacheIsBounded floods the cache from several goroutines with names that never repeat.
func TestClassesCacheIsBounded(t *testing.T) {
	classes, err := NewClasses(map[string]ClassConfig{"pumps": {MatchDevice: "pump-*"}})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range maxCached {
				ev := &Event{Device: fmt.Sprint("pump-", worker, "-", i)}
				if name := classes.For(ev).Name; name != "pumps" {
					t.Errorf("%s is of class %s", ev.Device, name)
				}
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, len(classes.cache), maxCached)
}

// A class's name becomes part of topics, of file names and of labels.
func TestAClassHasAPlainName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "A-z_0.9": true, ".a": true, strings.Repeat("n", maxClassName): true,
		"": false, strings.Repeat("n", maxClassName+1): false, ".": false, "..": false, "a/b": false, "a b": false, "a#": false, "ä": false, "a\n": false,
	} {
		_, err := NewClasses(map[string]ClassConfig{name: {MatchDevice: "d", Complexity: 1, Weight: 1, OnFull: "local"}})
		require.Equal(t, ok, err == nil, "%q: %v", name, err)
	}
}

// A class that is off does not exist, whatever its settings; the default class cannot be off.
func TestAClassThatIsOff(t *testing.T) {
	classes, err := NewClasses(map[string]ClassConfig{"a": {MatchDevice: "d", Off: true}, "b": {MatchDevice: "^d$", Priority: 99, Off: true}})
	require.NoError(t, err)
	require.Len(t, classes.All(), 1)
	require.Equal(t, DefaultClass, classes.For(&Event{Device: "d"}).Name)
	_, err = NewClasses(map[string]ClassConfig{DefaultClass: {Off: true, Priority: 99}})
	require.ErrorContains(t, err, "Classes.default.Off")
	require.ErrorContains(t, err, "Classes.default.Priority", "nor does that hide what else is wrong with it")
}

// A NeverLeave class takes an event also if only a reading names its device: an app service may collect readings of several devices.
func TestAReadingsOwnDeviceKeepsAnEventHere(t *testing.T) {
	secret := DefaultClassConfig()
	secret.MatchDevice, secret.NeverLeave = "hall*", true
	other := DefaultClassConfig()
	other.MatchDevice = "gate*"
	classes, err := NewClasses(map[string]ClassConfig{"secret": secret, "other": other})
	require.NoError(t, err)
	for name, row := range map[string]struct {
		guests []Guest
		want   string
	}{
		"none":                       {nil, "default"},
		"one that must not leave":    {[]Guest{{"hall/cam", "P"}}, "secret"},
		"the last must not leave":    {[]Guest{{"gate", "P"}, {"hall", "Q"}}, "secret"},
		"another class is no matter": {[]Guest{{"gate", "P"}}, "default"},
	} {
		ev := &Event{Device: "gathered", Profile: "P", Readings: []Reading{{Resource: "R"}}, Guests: row.guests}
		require.Equal(t, row.want, classes.For(ev).Name, name)
	}
}

// The ends of each range are valid, with their meaning.
func TestClassConfigTakesTheEndsOfItsRanges(t *testing.T) {
	for _, c := range []ClassConfig{
		{Priority: -1},
		{Priority: 9},
		{Complexity: -1},
		{Complexity: 100},
		{ChunkSize: -1},
		{ChunkSize: 1 << 20},
		{Weight: 1000},
		{CriticalLow: "1", CriticalHigh: "1"},
		{Deadline: maxDeadline.String()},
		{TTL: maxTTL.String()},
		{Results: "bus", NeverLeave: true},
		{Results: "cloud"},
		{Results: "both"},
	} {
		require.NoError(t, c.Validate(), "%+v", c)
	}
	for _, c := range []ClassConfig{
		{Weight: 1001}, {Deadline: (maxDeadline + 1).String()}, {TTL: (maxTTL + 1).String()}, {ChunkSize: 1<<20 + 1}, {MatchResultsOf: "a*"}, {MatchResultsOf: "a?"}, {MatchResultsOf: "[a]"},
	} {
		require.Error(t, c.Validate(), "%+v", c)
	}
	least, err := ClassConfig{Priority: -1, Complexity: -1, ChunkSize: -1, MatchResultsOf: " a, b ,,c,", MatchDevice: "**"}.compile("class", "x")
	require.NoError(t, err)
	require.Equal(t, [3]float64{0, 0, 0}, [3]float64{float64(least.Priority), least.Complexity, float64(least.ChunkSize)})
	require.Equal(t, Match{ResultsOf: "a,b,c"}, least.Match)
	require.False(t, least.Whole)
	def, err := ClassConfig{BacklogOrder: "newest"}.compile("class", "x")
	require.NoError(t, err)
	require.Equal(t, [4]float64{5, 20, 256, 1}, [4]float64{float64(def.Priority), def.Complexity, float64(def.ChunkSize), float64(def.Weight)})
	require.True(t, def.Whole)
	require.True(t, def.Newest)
	model, err := ClassConfig{Model: "m"}.compile("class", "x")
	require.NoError(t, err)
	require.Zero(t, model.ChunkSize, "a model reads whole values")
	require.False(t, model.Whole)
	model, err = ClassConfig{Model: "m", ChunkSize: 8}.compile("class", "x")
	require.NoError(t, err)
	require.Equal(t, 8, model.ChunkSize)
}

// A reduced form takes no events, and must be a class that can be one.
func TestReducedClasses(t *testing.T) {
	reduce := func(name string) ClassConfig {
		return ClassConfig{MatchDevice: "d", Overload: OverloadReduce, Deadline: "1s", ReducedClass: name}
	}
	stays := func(c ClassConfig) ClassConfig {
		c.NeverLeave = true
		return c
	}
	_, err := NewClasses(map[string]ClassConfig{"a": stays(reduce("b")), "b": stays(ClassConfig{})})
	require.NoError(t, err)
	c, err := NewClasses(map[string]ClassConfig{"a": reduce("small"), "small": {Operators: "summary window=60s"}})
	require.NoError(t, err)
	a := c.For(&Event{Device: "d"})
	require.Equal(t, "a", a.Name)
	require.Equal(t, "small", a.Reduced.Name)
	require.True(t, a.Reduced.Form)
	require.Equal(t, DefaultClass, c.For(&Event{Device: "other"}).Name)
	for text, configs := range map[string]map[string]ClassConfig{
		"is not a class":          {"a": reduce("b")},
		"takes events of its own": {"a": reduce("b"), "b": {MatchDevice: "x"}},
		"may leave this node":     {"a": stays(reduce("b")), "b": {}},
		"is reduced itself":       {"a": reduce("b"), "b": {Overload: OverloadReduce, Deadline: "1s", ReducedClass: "c"}, "c": {}},
	} {
		_, err := NewClasses(configs)
		require.ErrorContains(t, err, text)
	}
}
