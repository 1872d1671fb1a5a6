// Package kin recognises events that are results of an app-offload, so that services on one bus do not compute on each other's results without end.
// kin.go owns the recently published results, loop.go the devices that feed results back.
package kin

import (
	"bytes"
	"hash/maphash"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"

	"app-offload/functions/local"
	"app-offload/functions/say"
	"app-offload/functions/task"
)

// Kin recognises events that are results of an app-offload, this one or another, so that services on one bus do not compute on each other's results
// without end. An event is a result if any of these holds:
//
//   - its topic is the one on which this service publishes;
//   - it has the tags that every app-offload adds to its results (task.TagHop and others);
//   - it has the id of a recently published result;
//   - each of its readings has both the name and the value of one in a recently published result. A name alone is not enough:
//     a meter may have a resource Power_max beside Power;
//   - one of its readings has the name of a result of a result, such as Power_deadband_deadband, with any value.
//
// The last three apply to a result that eKuiper or an app-service-configurable has republished without its tags, under another device name, profile,
// source or topic. They are known for this service's own results, and for those that another app-offload publishes on its own topic. A class takes
// only results that still have their tags, whose service it names, and whose hop is below MaxHops. So every event of a device causes a bounded number
// of results. A rule that adds its own reading to a result is detected by loops. A rule that republishes results with other names, or with other
// values beside its own reading, cannot be distinguished from a device, and feeds itself.
//
// The methods are safe for concurrent use. At most maxKin ids and readings are kept.
type Kin struct {
	node, service string
	maxHops       int
	log           say.Logger
	loops         loops
	counts        [len(skipReasons)]atomic.Uint64

	seed   maphash.Seed
	mu     sync.RWMutex
	kin    map[uint64]publication // by the hash of an id, or of a reading's name and value
	latest []uint64               // a ring
	next   int
	serial uint64         // of the latest published result
	depth  map[uint64]int // by the hash of a result's name: 1 for a result of a device's reading, one more for each result in between
	once   say.Once       // services and topics already logged
}

// publication is the state of an id or a reading of results.
type publication struct {
	kept   int    // number of times it is in latest
	serial uint64 // of the latest result that had it
}

const (
	maxKin  = 1 << 16 // about 3 MB; the names take another 2
	maxDeep = 2       // names from this depth on never belong to a device
	maxTold = 64      // maximum number of services and topics in the log
)

// The reasons for skipping a result.
const (
	skipOwn    = iota // returned on this service's own topic
	skipResult        // has tags, and no class takes its service's results
	skipHops          // has passed MaxHops services
	skipEcho          // republished by another service, which removed its tags
	skipLoop          // likewise, with a reading of that service
)

var skipReasons = [...]string{"own", "result", "hops", "echo", "loop"}

func New(node, service string, maxHops int, log say.Logger) *Kin {
	return &Kin{
		node: node, service: service, maxHops: maxHops, log: log, seed: maphash.MakeSeed(),
		kin: map[uint64]publication{}, depth: map[uint64]int{}, once: say.Once{Max: maxTold},
	}
}

// Skipped returns the number of skipped results, by reason.
func (k *Kin) Skipped() map[string]uint64 {
	counts := map[string]uint64{}
	for i, reason := range skipReasons {
		counts[reason] = k.counts[i].Load()
	}
	return counts
}

// Own counts a result of this service that returned on its own topic.
func (k *Kin) Own() { k.counts[skipOwn].Add(1) }

// Looped returns the number of events skipped as feedback, and their devices.
func (k *Kin) Looped() (events uint64, devices string) {
	return k.counts[skipLoop].Load(), k.loops.names()
}

// Admit sets the event's lineage, and reports whether to process the event.
func (k *Kin) Admit(ev *task.Event, classes *task.Classes) bool {
	ev.Lineage = ev.Tagged()
	if ev.Lineage.Hop > 0 {
		k.learn(ev)
	} else if e := k.compare(ev); e.whole {
		ev.Lineage.Hop = task.MaxHop
		k.skip(skipEcho, ev)
		return false
	} else if k.feedsBack(ev, e) {
		ev.Lineage.Hop = task.MaxHop
		k.counts[skipLoop].Add(1)
		return false
	}
	switch {
	case ev.Lineage.Hop == 0:
		return true
	case classes.For(ev) == nil:
		k.skip(skipResult, ev)
		return false
	case ev.Lineage.Hop >= k.maxHops:
		k.skip(skipHops, ev)
		return false
	}
	return true
}

// echo is the comparison of an event without tags with the results.
type echo struct {
	whole  bool   // the event is a result
	passes bool   // a reading is a result's
	own    bool   // a reading has a result's name and its own value
	value  uint64 // hash of a result's reading in the event
	serial uint64 // of the latest result that had it
}

// compare compares an event without tags with the results.
func (k *Kin) compare(ev *task.Event) (e echo) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if len(k.kin) == 0 {
		return echo{}
	}
	if k.kin[maphash.String(k.seed, ev.ID)].kept > 0 {
		return echo{whole: true}
	}
	e.whole = true
	for i := range ev.Readings {
		r := &ev.Readings[i]
		depth := k.depth[maphash.String(k.seed, r.Resource)]
		if depth >= maxDeep {
			return echo{whole: true}
		}
		if !e.whole && depth == 0 {
			continue
		}
		h := k.hash(r.Resource, r.Value)
		published := k.kin[h]
		known := published.kept > 0
		e.whole = e.whole && known
		if depth > 0 {
			e.passes, e.own = e.passes || known, e.own || !known
		}
		if known {
			e.value, e.serial = h, published.serial
		}
	}
	return e
}

// deepen records the names of a result's readings. The source of a result begins with the name of the reading that it was made of.
func (k *Kin) deepen(source string, names []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	depth := 1
	for i := range len(source) {
		if source[i] == '_' {
			depth = max(depth, 1+k.depth[maphash.String(k.seed, source[:i])])
		}
	}
	if len(k.depth) >= maxKin {
		clear(k.depth)
	}
	for _, name := range names {
		k.depth[maphash.String(k.seed, name)] = min(depth, maxDeep)
	}
}

// learn records another service's result, if it was published on that service's own topic: an app-service may have renamed the result of "Temp"
// back to "Temp", and kept the tags.
func (k *Kin) learn(ev *task.Event) {
	if ev.Lineage.Service == "" || !local.OwnTopic(ev.Topic, ev.Lineage.Service) {
		return
	}
	hashes, names := []uint64{maphash.String(k.seed, ev.ID)}, []string(nil)
	for i := range ev.Readings {
		r := &ev.Readings[i]
		hashes, names = append(hashes, k.hash(r.Resource, r.Value)), append(names, r.Resource)
	}
	k.remember(hashes)
	k.deepen(ev.Source, names)
	k.loops.published(k.device(ev.Device), k.made(ev.Source), hashes[1:])
}

// made returns the hashes of the possible names of the reading that a result was made of: the source of a result begins with that name.
func (k *Kin) made(source string) (of []uint64) {
	for i := range len(source) {
		if source[i] == '_' {
			of = append(of, maphash.String(k.seed, source[:i]))
		}
	}
	return of
}

// hash returns the hash of a reading's name and value. Notations of the same number have the same hash, also in an array.
func (k *Kin) hash(name string, value []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(k.seed)
	_, _ = h.WriteString(name)
	for element := range bytes.SplitSeq(value, []byte{','}) {
		element = bytes.Trim(element, "[] ")
		if v, err := strconv.ParseFloat(string(element), 64); err == nil {
			maphash.WriteComparable(&h, v)
		} else {
			_, _ = h.Write(element)
		}
	}
	return h.Sum64()
}

// knows reports whether all are among the latest.
func (k *Kin) knows(hashes []uint64) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, h := range hashes {
		if k.kin[h].kept == 0 {
			return false
		}
	}
	return true
}

// remember adds hashes to the latest.
func (k *Kin) remember(hashes []uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.serial++
	for _, h := range hashes {
		k.kin[h] = publication{k.kin[h].kept + 1, k.serial}
		if len(k.latest) < maxKin {
			k.latest = append(k.latest, h)
			continue
		}
		old := k.latest[k.next]
		if p := k.kin[old]; p.kept > 1 {
			k.kin[old] = publication{p.kept - 1, p.serial}
		} else {
			delete(k.kin, old)
		}
		k.latest[k.next], k.next = h, (k.next+1)%maxKin
	}
}

// skip counts an event, and logs the first of each service or topic.
func (k *Kin) skip(reason int, ev *task.Event) {
	k.counts[reason].Add(1)
	about := skipReasons[reason] + ev.Lineage.Service
	if reason == skipEcho {
		about += ev.Topic
	}
	if !k.once.New(about, "skipped") {
		return
	}
	switch reason {
	case skipResult:
		k.log.Infof("skipping results of another service: service=%q node=%q topic=%q (a class takes them with MatchResultsOf)", ev.Lineage.Service, ev.Lineage.Node, ev.Topic)
	case skipHops:
		k.log.Warnf("skipping results beyond the hop limit: service=%q topic=%q hop=%d limit=%d", ev.Lineage.Service, ev.Topic, ev.Lineage.Hop, k.maxHops)
	case skipEcho:
		k.log.Warnf("skipping results that another service republished without their tags: topic=%q device=%q source=%q (publish them on a topic to which no app-offload subscribes)", ev.Topic, ev.Device, ev.Source)
	}
}

// Sign returns a Publisher that adds the tags to results and records them before next publishes them.
func (k *Kin) Sign(next local.Publisher) local.Publisher { return signer{k, next} }

type signer struct {
	kin  *Kin
	next local.Publisher
}

// Publish may be called again for the same result. It does not change the caller's tags, from which the result's id may follow.
func (s signer) Publish(r local.Result) error {
	tags := make(map[string]any, len(r.Event.Tags)+3)
	maps.Copy(tags, r.Event.Tags)
	tags[task.TagNode], tags[task.TagService] = s.kin.node, s.kin.service
	tags[task.TagHop] = strconv.Itoa(min(r.Hop, task.MaxHop))
	r.Event.Tags = tags
	hashes, names := []uint64{maphash.String(s.kin.seed, r.Event.Id)}, []string(nil)
	for i := range r.Event.Readings {
		name := r.Event.Readings[i].ResourceName
		hashes, names = append(hashes, s.kin.hash(name, []byte(r.Event.Readings[i].Value))), append(names, name)
	}
	if s.kin.knows(hashes) { // tried before
		return s.next.Publish(r)
	}
	s.kin.remember(hashes)
	s.kin.deepen(r.Event.SourceName, names)
	s.kin.loops.published(s.kin.device(r.Event.DeviceName), s.kin.made(r.Event.SourceName), hashes[1:])
	return s.next.Publish(r)
}
