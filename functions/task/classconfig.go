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

// ClassConfig is a class in the configuration, one entry of a map by class name. A class applies to the events that match all of its globs. If
// several match, a class that names a resource takes precedence over one that names a source, then a device, then a profile. The class "default"
// takes all other events.
//
// EdgeX reads an absent key as 0 or "", so these always mean the default. Where an explicit zero is useful for a number, it is written as -1.
type ClassConfig struct {
	// Off removes the class, as if it were not configured. It serves to remove a class of the shipped file.
	Off bool
	// MatchDevice is a glob on the device's name such as "pump-*"; "" or "*" is every device. In a glob, * is any text, ? any character, [a-z] one
	// character of these, [^a-z] one of all others, and \ takes the next character literally; a / is an ordinary character.
	MatchDevice string
	// MatchProfile is a glob on the device profile's name; "" or "*" is every profile.
	MatchProfile string
	// MatchSource is a glob on the event's source, a resource or command name; "" or "*" is every source.
	MatchSource string
	// MatchResource is a glob on the names of readings; "" or "*" is every reading. An event belongs to the class if one of its readings matches.
	MatchResource string
	// MatchResultsOf lets the class take the results of other app-offload services instead of device data: their service keys, such as "app-offload-2",
	// or node/key where nodes share a bus, separated by commas. A class takes no results of other services, and none beyond Intake.MaxHops. "" is device
	// data.
	MatchResultsOf string
	// Priority, 1 to 9: a task of higher priority leaves first and is dropped last. 0 means the default, 5; -1 is the lowest lane, 0.
	Priority int `within:"-1 9"`
	// Deadline is the time from reception to result, such as "200ms"; "" or "0s" is no deadline.
	Deadline string
	// TTL is the longest time that a task may wait in the spool, such as "72h", after which it expires; "" or "0s" is no limit.
	TTL string
	// Complexity, up to 100, is the cost of processing relative to size. 0 means the default, 20; -1 is no cost.
	Complexity float64
	// ChunkSize is the size of the largest chunk: elements of arrays other than StringArray, KiB of binaries. 0 leaves events whole, and splits by 256
	// where it is useful: an event above the limit of a message, one above 64 KiB with a critical part, and values with their own class. -1 splits only
	// what exceeds that limit.
	ChunkSize int `within:"-1 1048576"`
	// NeverLeave keeps the class's data on this node under any policy. An event with one such reading stays as a whole. The setting applies to decisions
	// from then on, including those about tasks parked under policy defer. Tasks already in the spool for the cloud are still sent, and so are, after
	// the next start, tasks that were then still queued for local work.
	NeverLeave bool
	// Policy is the policy of this class; "" is the service's policy.
	Policy string
	// OnFull is the rule for a task when the spool is full: refuse, dropOldest, dropLowestScore or local. "" is local.
	OnFull string `within:"refuse|dropOldest|dropLowestScore|local"`
	// Overload is the rule for a task while both paths are overloaded, that is while neither is predicted to return results within the bound of the
	// class, OverloadAge: keep, reduce, expire or drop. "" is keep, which loses nothing. drop drops tasks, those of the classes of lowest Value first
	// and only as many as exceed the capacity of both paths; parked tasks once no path can finish them within their bound. reduce processes them locally
	// instead, as tasks of ReducedClass, and drops them if even that is predicted to take twice the bound. expire drops a task once neither path can
	// finish it within its bound: on arrival, while parked, and in the spool, there also while the link is down. Under every other setting, tasks for
	// the cloud wait in the spool while the link is down. Critical tasks count as those of the highest value.
	Overload string
	// Value, 1 to 9: while both paths are overloaded, classes of lower value give way first. A class without Overload never gives way, and makes those
	// of lower value give way. 0 means the class's Priority, or 1 where that is the lowest lane.
	Value int `within:"0 9"`
	// OverloadAge is the age at which a result is useless, such as "30s". "" or "0s" is the Deadline; expire, drop and reduce need one of the two. A
	// class with neither never counts as overloaded.
	OverloadAge string
	// ReducedClass is the class as which tasks are processed under Overload reduce: its Operators, such as a summary, or its Model produce the reduced
	// form of all readings of the task. It has no Match keys, and takes no events. A task with readings that its operators do not read is not reduced,
	// unless it sets DropUnread. It must have NeverLeave if this class has.
	ReducedClass string
	// BacklogOrder is the order in which a backlog leaves: oldest or newest first. "" is oldest.
	BacklogOrder string `within:"oldest|newest"`
	// Weight, 1 to 1000, is the share of the link among classes of one priority. 0 means the default, 1.
	Weight int `within:"1 1000"`
	// Operators are the local operators with their parameters, such as "summary window=60s; range high=80". "" are those of Local.Operators, and "none"
	// computes nothing.
	Operators string
	// Model is the name of a model in the folder of Offload.Models, such as "bearing". The edge variant of that model computes tasks that are processed
	// locally, after the operators of the class; the answer is an event on the MessageBus, tagged with computedBy, modelVersion, confidence and
	// provisional. Complexity has no effect: the work is the model's measured local time. An event that the model cannot read goes to the cloud, and so
	// do all events while the model cannot be loaded. Its values are not split, unless ChunkSize is set. "" is no model.
	Model string
	// Hard selects the answers of the model that the cloud should check, such as "margin threshold=0.2 hourly=60 daily=500": the local answer is
	// published immediately with the tag provisional, then the task goes to the cloud, whose answer supersedes it. The filters are threshold,
	// cross-entropy, ibt, random, margin, band, energy and cloud; share=0.1 selects the hardest tenth of the recent answers instead of a threshold,
	// hourly and daily bound how many tasks leave, and mode=judge sends the tasks of a device to the cloud without a local run while its latest answers
	// were hard. "" selects no answer.
	Hard string
	// DropUnread lets an event be processed locally although it contains readings that no operator reads: strings, objects, images, numbers that are
	// none, resources without an operator. These readings are then lost. By default such an event goes to the cloud as a whole under any policy; an
	// event that no operator reads does so in any case.
	DropUnread bool
	// Results is the destination of the results of local work: bus, cloud or both. "" is bus. With cloud or both a result leaves as a task of its own,
	// of the class with this one's name and the suffix -results, whose settings it has if it is configured; it is durable before its source event counts
	// as done. A result that the spool does not accept goes to the bus.
	Results string
	// CriticalResource is a glob; readings of these resources, and their chunks, leave before the rest of their event. "" is no resource.
	CriticalResource string
	// CriticalTag is the name of an event tag that makes the whole event critical if it is true, a number other than 0, or a text other than "", "0" and
	// "false". "" is no tag.
	CriticalTag string
	// CriticalLow makes a chunk with a value below this number critical. "" is no bound.
	CriticalLow string
	// CriticalHigh makes a chunk with a value above this number critical. "" is no bound.
	CriticalHigh string
}

// The destinations of results of local work.
const (
	ResultsBus   = "bus"
	ResultsCloud = "cloud"
	ResultsBoth  = "both"
)

// defaultChunk is the ChunkSize where splitting is useful.
const defaultChunk = 256

// DefaultClassConfig is the class of events that match no other class, and the source of defaults.
func DefaultClassConfig() ClassConfig {
	return ClassConfig{
		Priority: 5, Deadline: "0s", TTL: "0s", Complexity: 20,
		OnFull: "local", BacklogOrder: "oldest", Weight: 1, OverloadAge: "0s",
	}
}

// Validate reports every problem of the class, except for its name.
func (c ClassConfig) Validate() error {
	_, err := c.compile("class", "")
	return err
}

// withDefaults fills in absent keys. The values for an explicit zero remain.
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

// compile checks the class and builds it. section is its place in the configuration, for error texts.
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

// overload checks the settings of overload, and returns the age beyond which a result is useless.
func (c ClassConfig) overload(p *check.Problems, deadline time.Duration) (bound time.Duration) {
	words := []string{OverloadKeep, OverloadReduce, OverloadExpire, OverloadDrop}
	if c.Overload != "" {
		p.OneOf("Overload", c.Overload, words...)
	}
	bound = cmp.Or(p.Duration("OverloadAge", c.OverloadAge, 0, maxTTL), deadline)
	switch sheds := (&Class{Overload: c.Overload}).Sheds(); {
	case sheds && !slices.Contains(words, c.Overload): // its needs are unknown
	case sheds && bound == 0:
		p.Addf("OverloadAge", c.OverloadAge, "must be set where Overload is %s and there is no Deadline: write the age at which a result is of no use, such as 30s", c.Overload)
	case c.Overload == OverloadReduce && c.ReducedClass == "":
		p.Addf("ReducedClass", c.ReducedClass, "must name the class of the reduced form where Overload is reduce")
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

// glob checks a pattern. A pattern of stars alone becomes "", so that it does not make a class look more specific than it is.
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

// serviceNames parses a list of service keys. Globs are rejected: computing on a result must be configured explicitly.
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

// bound returns NaN for a bound that is not set.
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
