package task

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/check"
)

// DefaultClass is the name of the class that takes the events of no other class.
const DefaultClass = "default"

const (
	maxClasses = 256  // some tables have a row per class
	maxCached  = 4096 // (device, profile, source) triples in the cache; when it is full, it is cleared
)

// Classes is the set of classes of one configuration. It is immutable apart from a cache, and safe for concurrent use; a new configuration makes a
// new set.
type Classes struct {
	all []*Class // most specific first, the default last

	last  atomic.Pointer[candidates] // of the latest event: Split asks once per reading
	mu    sync.RWMutex
	cache map[origin]*candidates
}

// origin is the part of an event that classes match, apart from its readings.
type origin struct{ device, profile, source, node, service string }

// candidates are the classes that match one origin.
type candidates struct {
	origin     origin
	byResource []*Class // those that also match a resource, most specific first
	base       *Class   // the most specific other class; nil for a result that no class takes
}

// none are the candidates of a result without a name.
var none candidates

// NewClasses builds the set and reports all problems of all classes. It adds a class named "default" if the configuration has none.
func NewClasses(configs map[string]ClassConfig) (*Classes, error) {
	c := &Classes{cache: make(map[origin]*candidates)}
	var problems []error
	reduced := reducedNames(configs)
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		class, err := build(name, configs[name], reduced[name])
		if configs[name].Off && name != DefaultClass {
			continue // its problems do not matter
		}
		problems = append(problems, err)
		c.all = append(c.all, class)
	}
	if configs[DefaultClass].Off {
		problems = append(problems, errors.New("Classes.default.Off = \"true\": events that match no other class belong to this one; remove Off")) //nolint:staticcheck // begins with a key
	}
	if _, given := configs[DefaultClass]; !given {
		class, err := build(DefaultClass, DefaultClassConfig(), false)
		problems = append(problems, err)
		c.all = append(c.all, class)
	}
	if len(c.all) > maxClasses {
		p := check.In("")
		p.Addf("Classes", len(c.all), "must be at most %d; use globs to put more names into one class", maxClasses)
		problems = append(problems, p.Err())
	}
	problems = append(problems, c.reduce(configs))
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	slices.SortFunc(c.all, moreSpecific)
	for i, class := range c.all {
		class.Order = i
	}
	return c, nil
}

// reducedNames returns the names of the classes that are the reduced form of another class.
func reducedNames(configs map[string]ClassConfig) map[string]bool {
	names := map[string]bool{}
	for _, config := range configs {
		names[config.ReducedClass] = true
	}
	return names
}

// reduce links each class to its reduced form.
func (c *Classes) reduce(configs map[string]ClassConfig) error {
	p := check.In("Classes")
	for _, class := range c.all {
		name := configs[class.Name].ReducedClass
		if name == "" || class.Overload != OverloadReduce {
			continue
		}
		at := slices.IndexFunc(c.all, func(other *Class) bool { return other.Name == name })
		switch {
		case at < 0:
			p.Addf(class.Name+".ReducedClass", name, "is not a class; add Classes.%s", name)
		case name == DefaultClass || c.all[at].Match != (Match{}):
			p.Addf(class.Name+".ReducedClass", name, "takes events of its own; name a class without Match keys")
		case c.all[at].Overload == OverloadReduce:
			p.Addf(class.Name+".ReducedClass", name, "is reduced itself; name a class whose Overload is not reduce")
		case class.NeverLeave && !c.all[at].NeverLeave: // if local work failed, the data would be sent
			p.Addf(class.Name+".ReducedClass", name, "may leave this node, and the data of %s must not; set Classes.%s.NeverLeave", class.Name, name)
		default:
			class.Reduced, c.all[at].Form = c.all[at], true
		}
	}
	return p.Err()
}

// build makes a class. A reduced form needs no match keys.
func build(name string, config ClassConfig, reduced bool) (*Class, error) {
	class, err := config.compile("Classes."+name, name)
	p := check.In("Classes")
	p.Add(err)
	if !plain(name) {
		p.Addf(name, name, "is not a valid class name; use 1 to %d letters, digits, '-', '_' and '.'", maxClassName)
	}
	switch {
	case name == DefaultClass:
		for i, value := range class.Match.all() {
			if value != "" {
				p.Addf(name+"."+matchKeys[i], value, "must be empty, since this class takes the events of no other class; remove it or rename the class")
			}
		}
	case class.Match == Match{} && !reduced:
		p.Addf(name, "", "would match everything; set one of %s", strings.Join(matchKeys[:], ", "))
	}
	return class, p.Err()
}

// plain restricts class names to characters that are safe in an MQTT topic, a file name and a metric's label.
func plain(name string) bool {
	const ok = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
	return name != "" && len(name) <= maxClassName && strings.Trim(name, ok) == "" && strings.Trim(name, ".") != ""
}

// moreSpecific orders classes for matching: by the fields that they match, then by how many of these without wildcards, then by priority, then by
// name. The default matches by no field and so is last.
func moreSpecific(a, b *Class) int {
	return cmp.Or(
		cmp.Compare(b.Match.named(), a.Match.named()),
		cmp.Compare(b.Match.exact(), a.Match.exact()),
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(a.Name, b.Name),
	)
}

// matchKeys are the keys of a Match.
var matchKeys = [...]string{"MatchDevice", "MatchProfile", "MatchSource", "MatchResource", "MatchResultsOf"}

func (m Match) all() [len(matchKeys)]string {
	return [...]string{m.Device, m.Profile, m.Source, m.Resource, m.ResultsOf}
}

func (m Match) fields() [4]string { return [4]string{m.Resource, m.Source, m.Device, m.Profile} }

// named returns one bit per field that is set, the most specific field highest, so that sets compare as numbers.
func (m Match) named() (bits int) {
	for _, f := range m.fields() {
		bits <<= 1
		if f != "" {
			bits |= 1
		}
	}
	if bits <<= 1; m.ResultsOf != "" {
		bits |= 1
	}
	return bits
}

// exact is named for the fields without wildcards.
func (m Match) exact() (bits int) {
	for _, f := range m.fields() {
		bits <<= 1
		if f != "" && !strings.ContainsAny(f, `*?[\`) {
			bits |= 1
		}
	}
	return bits
}

// Limit sets the size in bytes above which events are always split. It is called while the classes are built.
func (c *Classes) Limit(largest int) {
	for _, class := range c.All() {
		class.Largest = largest
	}
}

// All returns the classes by their Order: most specific first, the default last. The caller must not change the slice.
func (c *Classes) All() []*Class { return c.all }

// For returns the class of an event as a whole: the most specific one of any of its readings. A class with NeverLeave takes precedence over all
// others, so that a reading does not leave with its neighbours; devices named by readings only count too. Data of a device always have a class; a
// result that no class takes has none, and For returns nil.
func (c *Classes) For(ev *Event) *Class {
	for _, guest := range ev.Guests {
		host := *ev
		host.Device, host.Profile, host.Guests = guest.Device, guest.Profile, nil
		if class := c.For(&host); class != nil && class.NeverLeave {
			return class
		}
	}
	k := c.candidates(ev)
	if len(k.byResource) == 0 || len(ev.Readings) == 0 {
		return k.base
	}
	best := k.of(ev.Readings[0].Resource)
	for i := 1; i < len(ev.Readings); i++ {
		class := k.of(ev.Readings[i].Resource)
		if best == nil || class == nil {
			best = cmp.Or(best, class)
			continue
		}
		if class.NeverLeave == best.NeverLeave && class.Order < best.Order || class.NeverLeave && !best.NeverLeave {
			best = class
		}
	}
	return best
}

// ForResource returns the class of one resource of an event. For "" it is For, and also for a resource of a result that no class takes: the class of
// the event then takes all of it.
func (c *Classes) ForResource(ev *Event, resource string) *Class {
	if resource != "" {
		if class := c.candidates(ev).of(resource); class != nil {
			return class
		}
	}
	return c.For(ev)
}

// Takes reports whether any class takes the results of a service.
func (c *Classes) Takes(node, service string) bool {
	for _, class := range c.all {
		if class.Match.takes(node, service) {
			return true
		}
	}
	return false
}

func (k *candidates) of(resource string) *Class {
	for _, class := range k.byResource {
		if matches(class.Match.Resource, resource) {
			return class
		}
	}
	return k.base
}

func (c *Classes) candidates(ev *Event) *candidates {
	key := origin{ev.Device, ev.Profile, ev.Source, ev.Lineage.Node, ev.Lineage.Service}
	if key.service == "" && ev.Lineage.Hop > 0 {
		return &none
	}
	if k := c.last.Load(); k != nil && k.origin == key {
		return k
	}
	c.mu.RLock()
	k := c.cache[key]
	c.mu.RUnlock()
	if k == nil {
		k = c.remember(key)
	}
	c.last.Store(k)
	return k
}

// remember computes the candidates of an origin that is not in the cache. It copies the key's strings: those of the event may pin all of its bytes.
func (c *Classes) remember(key origin) *candidates {
	key = origin{
		strings.Clone(key.device), strings.Clone(key.profile), strings.Clone(key.source), strings.Clone(key.node), strings.Clone(key.service),
	}
	k := &candidates{origin: key}
	for _, class := range c.all {
		m := class.Match
		if class.Form || !m.takes(key.node, key.service) || !fit(m.Device, key.device) || !fit(m.Profile, key.profile) || !fit(m.Source, key.source) {
			continue
		}
		if m.Resource == "" {
			k.base = class // the first is the most specific, and the default fits all device data
			break
		}
		k.byResource = append(k.byResource, class)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.cache) >= maxCached {
		clear(c.cache)
	}
	c.cache[key] = k
	return k
}

func fit(pattern, name string) bool { return pattern == "" || matches(pattern, name) }

// Class holds the settings for a kind of data. It is immutable once built: a change of the configuration builds new ones.
type Class struct {
	Name       string
	Priority   int           // 0–9, higher leaves first and is dropped last; also the spool's lane
	Deadline   time.Duration // from reception to result; 0 is no deadline
	TTL        time.Duration // longest wait in the spool; 0 is no limit
	Complexity float64       // 0–100, cost of processing relative to size
	ChunkSize  int           // elements of arrays, KiB of binaries; 0 never splits
	Whole      bool          // events leave whole unless splitting is useful
	Largest    int           // bytes above which an event is always split, by its readings if necessary; 0 is no limit
	NeverLeave bool          // the data must not leave the node
	Policy     string        // the policy that decides, "" is the service's default
	OnFull     string        // rule for a task when the spool is full: refuse, dropOldest, dropLowestScore, local
	Newest     bool          // backlog leaves newest first instead of oldest first
	Weight     int           // share of the link among classes of one priority, ≥ 1
	DropUnread bool          // readings that no operator reads are lost if the others are processed locally
	Results    string        // destination of results of local work: bus (or ""), cloud or both
	Operators  string        // the local operators and their parameters, in the notation of package local
	Model      string        // the model that computes on the data beside the operators, "" for no model
	Hard       string        // which of its answers the cloud should check, in the notation of package models/hard; "" for no answer
	Overload   string        // rule for a task while both paths are overloaded: keep (or ""), reduce, expire, drop
	Value      int           // 1–9; classes of lower value give way first
	Bound      time.Duration // from reception to result, beyond which a path counts as overloaded; 0 is no bound
	Reduced    *Class        // class of the reduced form, nil without one
	Form       bool          // it is the reduced form of another class, and takes no events
	Order      int           // position among all classes, for tables indexed by class

	Match    Match
	Critical Critical
}

// The values of Overload.
const (
	OverloadKeep   = "keep"
	OverloadReduce = "reduce"
	OverloadExpire = "expire"
	OverloadDrop   = "drop"
)

// SendsResults reports whether results of the class leave as tasks of their own.
func (c *Class) SendsResults() bool { return c.Results == ResultsCloud || c.Results == ResultsBoth }

// Sheds reports whether tasks of the class may be dropped, or reduced, while both paths are overloaded.
func (c *Class) Sheds() bool { return c.Overload != "" && c.Overload != OverloadKeep }

// Match selects events. Each field is a glob as in package check; an empty one matches everything.
//
// ResultsOf lists the app-offload services whose results the class takes instead of device data, separated by commas: each as its service key, or as
// node/key. Empty takes device data, and no results.
type Match struct{ Device, Profile, Source, Resource, ResultsOf string }

// takes reports whether the class is for results of that service, or for device data if service is "".
func (m *Match) takes(node, service string) bool {
	if m.ResultsOf == "" || service == "" {
		return m.ResultsOf == "" && service == ""
	}
	for name := range strings.SplitSeq(m.ResultsOf, ",") {
		if name == service || len(name) == len(node)+1+len(service) && name == node+"/"+service {
			return true
		}
	}
	return false
}

// Critical selects tasks that leave before all others of their event.
type Critical struct {
	Resource  string  // glob on the resource's name, "" matches none
	Tag       string  // name of an EdgeX tag that, when truthy, makes the whole event critical
	Low, High float64 // a chunk with a value outside [Low, High] is critical; NaN is no bound
}
