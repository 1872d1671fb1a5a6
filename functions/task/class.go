package task

import (
	"strings"
	"time"
)

// Class says how a kind of data is treated. It is immutable once built: a change of the configuration builds new ones.
type Class struct {
	Name       string
	Priority   int           // 0–9, higher leaves first and is dropped last; it is also the spool's lane
	Deadline   time.Duration // from reception to result; 0 for no deadline
	TTL        time.Duration // how long a task may wait in the spool; 0 is for ever
	Complexity float64       // 0–100, cost of processing relative to size
	ChunkSize  int           // elements of arrays, KiB of binaries; 0 never splits
	Whole      bool          // events leave whole unless cutting pays
	Largest    int           // bytes above which an event is cut in any case, by its readings where need be; 0 is no limit
	NeverLeave bool          // the data must not leave the node
	Policy     string        // the policy that decides, "" is the service's default
	OnFull     string        // what happens to a task when the spool is full: refuse, dropOldest, dropLowestScore, local
	Newest     bool          // backlog leaves newest first instead of oldest first
	Weight     int           // share of the link among classes of one priority, ≥ 1
	DropUnread bool          // readings that no operator reads are lost where the others are processed locally
	Results    string        // where results of local work go: bus (or ""), cloud or both
	Operators  string        // the local operators and their parameters, in the notation of package local
	Model      string        // the model that computes on the data beside the operators, "" for none
	Hard       string        // which of its answers are worth a second one by the cloud, in the notation of package models/hard; "" for none
	Overload   string        // what happens to a task while both paths are overloaded: keep (or ""), reduce, expire, drop
	Value      int           // 1–9, of two classes the one of lower value gives way first
	Bound      time.Duration // from reception to result, beyond which a path counts as overloaded; 0 for no bound
	Reduced    *Class        // as which a task is processed locally in a reduced form, nil without one
	Form       bool          // it is the reduced form of others, and takes no events
	Order      int           // position among all classes, for tables indexed by class

	Match    Match
	Critical Critical
}

// What Overload may say.
const (
	OverloadKeep   = "keep"
	OverloadReduce = "reduce"
	OverloadExpire = "expire"
	OverloadDrop   = "drop"
)

// Sheds reports whether tasks of the class may be dropped, or reduced, while both paths are overloaded.
func (c *Class) Sheds() bool { return c.Overload != "" && c.Overload != OverloadKeep }

// Match selects events. Each field is a glob as in package check; an empty one matches everything.
//
// ResultsOf lists the app-offload services whose results the class takes in place of device data, separated by commas: each as its
// service key, or as node/key. Empty takes device data, and no results.
type Match struct{ Device, Profile, Source, Resource, ResultsOf string }

// takes reports whether the class is for what came from there.
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

// Critical marks tasks that go before all others of their event.
type Critical struct {
	Resource  string  // glob on the resource's name, "" matches none
	Tag       string  // name of an EdgeX tag that, when truthy, makes the whole event critical
	Low, High float64 // a chunk with a value outside [Low, High] is critical; NaN is no bound
}
