package task

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"app-offload/functions/check"
)

// The bounds of a class's settings.
const (
	maxPriority  = 9
	maxDeadline  = 24 * time.Hour
	maxTTL       = 10 * 365 * 24 * time.Hour
	maxClassName = 64
)

// ClassConfig is a class as the configuration writes it, one entry of a map by class name. A class applies to the
// events that match all of its globs; where several do, the one that names a resource goes before one that names a
// source, then a device, then a profile. The class "default" takes what no other does.
//
// A key left out is 0 or "" when EdgeX reads the entry, so these always mean the default. Where an explicit nothing is
// useful for a number, it is written as -1.
type ClassConfig struct {
	// Off takes the class away: nothing belongs to it, as if it were not there. It removes a class that the shipped file has.
	Off bool
	// MatchDevice is a glob on the device's name such as "pump-*"; "" or "*" is every device. In a glob, * is any text, ? any character,
	// [a-z] one of these, [^a-z] one of all others, and \ takes the next character as it is; a / is a character like any other.
	MatchDevice string
	// MatchProfile is a glob on the device profile's name; "" or "*" is every profile.
	MatchProfile string
	// MatchSource is a glob on the event's source, a resource or command name; "" or "*" is every source.
	MatchSource string
	// MatchResource is a glob on the names of readings; "" or "*" is every one. An event belongs to the class if one of its readings does.
	MatchResource string
	// MatchResultsOf makes the class one for the results of other app-offload services, in place of device data: their service keys,
	// such as "app-offload-2", or node/key where nodes share a bus, separated by commas. No class takes results that does not name
	// their service, and none takes them beyond Intake.MaxHops. "" is device data.
	MatchResultsOf string
	// Priority, 1 to 9: higher leaves first and is dropped last. 0 means the default, 5; -1 is the lowest lane, 0.
	Priority int `within:"-1 9"`
	// Deadline is the time from reception to result, such as "200ms"; "" or "0s" for no deadline.
	Deadline string
	// TTL is how long a task may wait in the spool before it expires, such as "72h"; "" or "0s" is for ever.
	TTL string
	// Complexity, up to 100, is the cost of processing relative to size. 0 means the default, 20; -1 is no cost at all.
	Complexity float64
	// ChunkSize is the largest chunk: elements of arrays other than StringArray, KiB of binaries. 0 leaves events whole, and cuts by 256 where it pays: an event
	// that exceeds the limit of a message, one above 64 KiB of which a part is critical, and values of a class of their own. -1 cuts nothing but what exceeds that limit.
	ChunkSize int `within:"-1 1048576"`
	// NeverLeave keeps the class's data on this node, whatever a policy says. An event with one such reading stays as a whole.
	// It holds for what is decided from then on, tasks parked under policy defer included: what is in the spool to be sent is sent, and
	// so is, after the next start, what then still waited to be done here.
	NeverLeave bool
	// Policy decides for this class; "" is the service's policy.
	Policy string
	// OnFull is what happens to a task when the spool is full: refuse, dropOldest, dropLowestScore or local. "" is local.
	OnFull string `within:"refuse|dropOldest|dropLowestScore|local"`
	// Overload is what happens to a task while both paths are overloaded, that is while neither is predicted to bring results within the
	// bound of the class, OverloadAge: keep, reduce, expire or drop. "" is keep, under which nothing is lost. drop gives tasks up, those of
	// the classes of lowest Value first and only as many as exceed what both paths can do; parked ones once no path can finish them within their
	// bound. reduce processes them locally instead, as tasks of ReducedClass, and drops them where even that is predicted to take twice the
	// bound. expire drops a task once neither path can finish it within its bound: on arrival, while parked, and in the spool, there also
	// while the link is down. What is to leave while the link is down waits in the spool under every other setting. Critical tasks count as those of the highest value.
	Overload string
	// Value, 1 to 9: while both paths are overloaded, classes of lower value give way first; one without Overload gives way to
	// none, and makes those of lower value give way. 0 means the class's Priority, or 1 where that is the lowest lane.
	Value int `within:"0 9"`
	// OverloadAge is the age at which a result is of no use any more, such as "30s". "" or "0s" is the Deadline; one of both is
	// needed for expire, drop and reduce. A class with neither never counts as overloaded.
	OverloadAge string
	// ReducedClass is the name of the class as whose task a task is processed under Overload reduce: its Operators, such as a summary, or its
	// Model are the reduced form, of all readings of the task. It has no Match keys, and takes no events. What its operators do not
	// read is not reduced, unless it says DropUnread. It has NeverLeave where this class does.
	ReducedClass string
	// BacklogOrder is the order in which a backlog leaves: oldest or newest first. "" is oldest.
	BacklogOrder string `within:"oldest|newest"`
	// Weight, 1 to 1000, is the share of the link among classes of one priority. 0 means the default, 1.
	Weight int `within:"1 1000"`
	// Operators are the local operators with their parameters, such as "summary window=60s; range high=80". "" are those of
	// Local.Operators, and "none" computes nothing.
	Operators string
	// Model is the name of a model in the folder of Offload.Models, such as "bearing". A task that is processed locally is then computed by
	// that model's edge variant, after the operators of the class; the answer is an event on the MessageBus, tagged with computedBy,
	// modelVersion, confidence and provisional. Complexity has no effect: the work is what the model was measured to take here. An event
	// that the model cannot read goes to the cloud, and so do all while the model cannot be loaded. Its values are not cut, unless
	// ChunkSize says so. "" is no model.
	Model string
	// Hard says which answers of the model are worth a second one by the cloud, such as "margin threshold=0.2 hourly=60 daily=500": the
	// local answer is published at once with the tag provisional, the task then goes to the cloud, whose answer supersedes it. The filters
	// are threshold, cross-entropy, ibt, random, margin, band, energy and cloud; share=0.1 takes the hardest tenth of the recent answers in
	// place of a threshold, hourly and daily bound how many leave, and mode=judge sends the tasks of a device to the cloud without a
	// local run while its latest answers were hard. "" names no model.
	Hard string
	// DropUnread lets an event be processed locally although it holds readings that no operator reads: strings, objects, images, numbers
	// that are none, resources without an operator. These are lost then. By default such an event goes to the cloud as a whole, whatever
	// the policy says; one of which nothing is read does so in any case.
	DropUnread bool
	// Results says where the results of local work go: bus, cloud or both. "" is bus. With cloud or both a result leaves as a task of
	// its own, of the class with this one's name and -results at the end, whose settings it has if it is configured; it is durable before its source
	// event counts as done. What the spool does not take goes to the bus.
	Results string
	// CriticalResource is a glob; readings of these resources, and their chunks, go before all else of their event. "" for no resource.
	CriticalResource string
	// CriticalTag names an event tag that makes the whole event critical when it is true, a number but 0, or a text but "", "0" and "false". "" for no tag.
	CriticalTag string
	// CriticalLow makes a chunk with a value below this number critical. "" is no bound.
	CriticalLow string
	// CriticalHigh makes a chunk with a value above this number critical. "" is no bound.
	CriticalHigh string
}

// Where results of local work go.
const (
	ResultsBus   = "bus"
	ResultsCloud = "cloud"
	ResultsBoth  = "both"
)

// defaultChunk is the ChunkSize where cutting pays.
const defaultChunk = 256

// DefaultClassConfig is the class of whatever matches no other, and the source of every key left out.
func DefaultClassConfig() ClassConfig {
	return ClassConfig{
		Priority: 5, Deadline: "0s", TTL: "0s", Complexity: 20,
		OnFull: "local", BacklogOrder: "oldest", Weight: 1, OverloadAge: "0s",
	}
}

// Validate reports everything that is wrong with the class, except for its name.
func (c ClassConfig) Validate() error {
	_, err := c.compile("class", "")
	return err
}

// withDefaults fills in the keys left out. The words for an explicit nothing remain.
func (c ClassConfig) withDefaults() ClassConfig {
	d := DefaultClassConfig()
	c.Priority = cmp.Or(c.Priority, d.Priority)
	c.Deadline = cmp.Or(c.Deadline, d.Deadline)
	c.TTL = cmp.Or(c.TTL, d.TTL)
	c.Complexity = cmp.Or(c.Complexity, d.Complexity)
	c.OnFull = cmp.Or(c.OnFull, d.OnFull)
	c.BacklogOrder = cmp.Or(c.BacklogOrder, d.BacklogOrder)
	c.Weight = cmp.Or(c.Weight, d.Weight)
	c.OverloadAge = cmp.Or(c.OverloadAge, d.OverloadAge)
	return c
}

// compile checks the class and builds it. Section is where the configuration has it, for the error texts.
func (c ClassConfig) compile(section, name string) (*Class, error) {
	c = c.withDefaults()
	if c.Model != "" && c.ChunkSize == 0 {
		c.ChunkSize = -1 // a model reads whole values
	}
	p := check.Fields(section, c)
	check.Range(p, "Complexity", c.Complexity, 0, 100, -1)
	if c.Results != "" {
		p.OneOf("Results", c.Results, ResultsBus, ResultsCloud, ResultsBoth)
	}
	if c.NeverLeave && c.Results != "" && c.Results != ResultsBus {
		p.Addf("Results", c.Results, "must be bus where NeverLeave is set: results may hold values of the data")
	}
	deadline, ttl := p.Duration("Deadline", c.Deadline, 0, maxDeadline), p.Duration("TTL", c.TTL, 0, maxTTL)
	bound := c.overload(p, deadline)
	if c.Overload == OverloadExpire && ttl > 0 && ttl < bound && p.Fine("TTL", "Deadline", "OverloadAge") {
		p.Addf("TTL", c.TTL, "must not be below the age at which results are of no use, %v: data would expire in the spool while they are still of use; raise it, or lower OverloadAge", bound)
	}
	class := &Class{
		Name: name, Priority: max(c.Priority, 0), Complexity: max(c.Complexity, 0), ChunkSize: max(cmp.Or(c.ChunkSize, defaultChunk), 0), Whole: c.ChunkSize == 0,
		Deadline:   deadline,
		TTL:        ttl,
		NeverLeave: c.NeverLeave, Policy: c.Policy, OnFull: c.OnFull, Newest: c.BacklogOrder == "newest",
		Weight: c.Weight, Operators: c.Operators, DropUnread: c.DropUnread, Results: c.Results, Model: c.Model, Hard: c.Hard,
		Overload: c.Overload, Value: max(cmp.Or(c.Value, c.Priority), 1), Bound: bound,
		Match: Match{
			Device:   glob(p, "MatchDevice", c.MatchDevice),
			Profile:  glob(p, "MatchProfile", c.MatchProfile),
			Source:   glob(p, "MatchSource", c.MatchSource),
			Resource: glob(p, "MatchResource", c.MatchResource),

			ResultsOf: serviceNames(p, "MatchResultsOf", c.MatchResultsOf),
		},
		Critical: c.critical(p),
	}
	return class, p.Err()
}

// overload checks what is said of overload, and returns the age beyond which a result is of no use.
func (c ClassConfig) overload(p *check.Problems, deadline time.Duration) (bound time.Duration) {
	words := []string{OverloadKeep, OverloadReduce, OverloadExpire, OverloadDrop}
	if c.Overload != "" {
		p.OneOf("Overload", c.Overload, words...)
	}
	bound = cmp.Or(p.Duration("OverloadAge", c.OverloadAge, 0, maxTTL), deadline)
	switch sheds := (&Class{Overload: c.Overload}).Sheds(); {
	case sheds && !slices.Contains(words, c.Overload): // what it needs is not known
	case sheds && bound == 0:
		p.Addf("OverloadAge", c.OverloadAge, "must be set where Overload is %s and there is no Deadline: write the age at which a result is of no use, such as 30s", c.Overload)
	case c.Overload == OverloadReduce && c.ReducedClass == "":
		p.Addf("ReducedClass", c.ReducedClass, "must name the class as whose tasks those of this one are processed where Overload is reduce")
	case c.Overload != OverloadReduce && c.ReducedClass != "":
		p.Addf("ReducedClass", c.ReducedClass, "has no effect unless Overload is reduce; change Overload, or remove it")
	}
	return bound
}

func (c ClassConfig) critical(p *check.Problems) Critical {
	k := Critical{
		Resource: pattern(p, "CriticalResource", c.CriticalResource), Tag: c.CriticalTag,
		Low: bound(p, "CriticalLow", c.CriticalLow), High: bound(p, "CriticalHigh", c.CriticalHigh),
	}
	if k.Low > k.High {
		p.Addf("CriticalLow", c.CriticalLow, "must not be above CriticalHigh, %s", c.CriticalHigh)
	}
	return k
}

// glob checks a pattern. One of stars alone becomes "", so that it does not make a class look more specific than it is.
func glob(p *check.Problems, key, text string) string {
	if strings.Trim(text, "*") == "" {
		return ""
	}
	return pattern(p, key, text)
}

func pattern(p *check.Problems, key, text string) string {
	if err := check.Glob(text); err != nil {
		p.Addf(key, text, "%v", err)
	}
	return text
}

// serviceNames reads a list of service keys. They are names and not globs: what is computed on twice is to be chosen with care.
func serviceNames(p *check.Problems, key, text string) string {
	var names []string
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	if strings.ContainsAny(text, "*?[") {
		p.Addf(key, text, "is a list of service keys and not a glob; name each of them, such as \"app-offload-2\"")
	}
	return strings.Join(names, ",")
}

// bound is NaN for a bound that is not set.
func bound(p *check.Problems, key, text string) float64 {
	if strings.TrimSpace(text) == "" {
		return math.NaN()
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		p.Addf(key, text, "is not a number; write it like \"-3.5\", or leave it empty for no bound")
		return math.NaN()
	}
	return v
}
