package spool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// recovery is the work of Open.
type recovery struct {
	*Spool
	st      *savedState // nil without an intact slot
	weak    bool        // see loader
	counted uint64      // the state's counters include the records up to this sequence
	saved   map[uint64]*savedSegment
	latest  uint64 // id of the latest segment, which provides the epoch if the state is lost
	top     uint64 // the highest sequence found
	newest  uint32 // the latest tick at which a record was committed
	unknown bool   // a quarantined segment contains sequences unknown to the state
}

func (r *recovery) run(names []string) error {
	ids := segmentFiles(names)
	r.adopt()
	r.tidy(names)
	for _, id := range ids {
		if err := r.segment(id); err != nil {
			return err
		}
	}
	for id, sg := range r.saved {
		if sg.records == 0 || r.weak {
			continue
		}
		r.report(fmt.Errorf("spool segment %s is missing; its records are counted as quarantined", segmentName(sg.lane, id)))
	}
	r.resume()
	r.balance()
	return nil
}

// adopt takes over the saved state.
func (r *recovery) adopt() {
	st := r.st
	if st == nil {
		return
	}
	r.Spool.origin = st.origin
	r.Spool.epoch, r.Spool.next, r.Spool.nextID = st.epoch, st.next, st.nextID
	r.Spool.durable, r.Spool.encoded = st.gen, st.gen
	r.counted = st.counted
	r.weak = st.reserved > 0 && !st.clean
	r.fates.ranges = st.fates.ranges
	for _, c := range st.classes {
		own := r.class(c.name)
		own.appended, own.done, own.dropped = c.appended, c.done, c.dropped
	}
	for i := range st.segments {
		r.saved[st.segments[i].id] = &st.segments[i]
	}
	r.clockBase = time.Duration(st.clock)
	r.clockBase += r.opts.clock.Moment().Since(st.at)
}

// tidy removes temporary files and takes over spares. The start does not depend on either.
func (r *recovery) tidy(names []string) {
	var errs []error
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, ".tmp"):
			if err := ignoreMissing(r.fs.Remove(r.path(name))); err != nil {
				errs = append(errs, fmt.Errorf("removing %s: %w", name, err))
			}
		case strings.HasPrefix(name, "spare-"):
			errs = append(errs, r.spare(name))
		}
	}
	kept, err := r.fs.List(r.path(quarantineDir))
	if err != nil {
		kept = nil // the directory does not exist yet
	}
	for _, name := range kept {
		if f, err := r.fs.Open(r.path(quarantineDir+"/"+name), false); err == nil {
			n, sizeErr := f.Size()
			r.kept += n
			errs = append(errs, sizeErr, f.Close())
		}
	}
	r.disk += r.kept
	r.report(errors.Join(errs...))
}

func (r *recovery) spare(name string) error {
	f, err := r.fs.Open(r.path(name), true)
	if err != nil {
		return fmt.Errorf("opening %s: %w", name, err)
	}
	if n, err := f.Size(); err == nil && n == r.limits.segment && len(r.spares) < r.limits.spares() {
		r.spares = append(r.spares, spare{name, &handle{File: f, users: 1}})
		r.disk += n
		return nil
	}
	if err := errors.Join(f.Close(), r.fs.Remove(r.path(name))); err != nil {
		return fmt.Errorf("removing %s: %w", name, err)
	}
	return nil
}

// segment takes over one segment, or removes or quarantines its file.
func (r *recovery) segment(id fileID) error {
	saved := r.saved[id.id]
	name := segmentName(id.lane, id.id)
	l := &loader{fs: r.fs, dir: r.dir, rescan: r.opts.rescan, lost: r.st == nil, weak: r.weak}
	if saved == nil && r.st != nil && id.id < r.st.nextID { // all its records were gone, and the state no longer has it
		f, err := l.load(id.lane, id.id, &savedSegment{end: dataStart}) // only its header
		if errors.Is(err, errUnused) && r.misnamed(f) {
			return r.banish(id, f.size, "its header names segment "+f.name())
		}
		return r.discard(id)
	}
	f, err := l.load(id.lane, id.id, saved)
	if f != nil && err == nil && r.Spool.origin == "" {
		r.Spool.origin = f.origin
	}
	fresh := saved == nil || saved.records == 0 || r.weak
	switch {
	case errors.Is(err, errUnused) && r.misnamed(f):
		return r.banish(id, f.size, "its header names segment "+f.name())
	case fresh && errors.Is(err, errUnused):
		delete(r.saved, id.id) // its first commit was incomplete, or the header would be there
		return r.discard(id)
	case errors.Is(err, errNoHeader) || errors.Is(err, errUnused) || r.st != nil && errors.Is(err, errUnread):
		r.unknown = r.unknown || saved == nil || saved.end == 0
		return r.banish(id, f.size, err.Error())
	case err != nil:
		return err
	case f.origin != r.Spool.origin:
		return r.banish(id, f.size, "segment belongs to another spool: epoch "+f.epoch)
	}
	if r.st == nil && id.id >= r.latest {
		r.latest, r.Spool.epoch = id.id, f.epoch
	}
	delete(r.saved, id.id)
	file, err := r.fs.Open(r.path(name), true)
	if err != nil {
		return fmt.Errorf("opening segment %s: %w", name, err)
	}
	r.enlist(f, file, saved)
	return nil
}

// misnamed reports whether a file with another segment's header is that segment, renamed, and not a spare in reuse: the state does not contain the
// former segment of a spare.
func (r *recovery) misnamed(f *found) bool {
	return f.id > 0 && (r.st == nil || r.saved[f.id] != nil)
}

func (r *recovery) discard(id fileID) error {
	err := errors.Join(
		ignoreMissing(r.fs.Remove(r.path(segmentName(id.lane, id.id)))),
		ignoreMissing(r.fs.Remove(r.path(indexName(id.lane, id.id)))),
	)
	if err != nil {
		return fmt.Errorf("removing empty segment %s: %w", segmentName(id.lane, id.id), err)
	}
	return nil
}

// banish moves a file that cannot be read as a segment to the quarantine.
func (r *recovery) banish(id fileID, size int64, reason string) error {
	name := segmentName(id.lane, id.id)
	to, _ := r.asideAs(name, nil)
	err := r.fs.MkdirAll(r.path(quarantineDir))
	if err == nil {
		err = r.fs.Rename(r.path(name), r.path(to))
	}
	if err != nil {
		return fmt.Errorf("quarantining segment %s (%s): %w", name, reason, err)
	}
	r.kept, r.disk = r.kept+size, r.disk+size
	delete(r.saved, id.id) // or it would also be reported as missing
	r.note(Damage{File: name, Lane: id.lane, Reason: reason, Kept: to})
	return nil
}

// enlist adds a segment and its records.
func (r *recovery) enlist(f *found, file File, saved *savedSegment) {
	g := &segment{
		segmentHeader: f.segmentHeader, sum: f.seed(), h: &handle{File: file, users: 1},
		size: f.size, end: f.end, tail: f.end, safe: f.end, sealed: true, entries: f.entries, indexed: f.indexed, indexSize: f.indexSize,
	}
	if aead, err := findKey(r.opts.keys, &g.segmentHeader); err != nil {
		g.locked = true
		r.report(err)
	} else {
		g.aead = aead
	}
	r.nextID = max(r.nextID, g.id+1) // not from the name of an invalid file, which may have any number
	r.disk += g.size + g.indexSize
	l := &r.lanes[g.lane]
	l.segs = append(l.segs, g)
	var ranges []byte // of gone sequences
	if saved != nil {
		ranges = saved.gone
	}
	if saved != nil && f.indexed {
		g.holes = saved.holes
	}
	r.top = max(r.top, g.base-1)
	r.entries(g, f.names, ranges)
	for i := range f.damage {
		r.damaged(g, &f.damage[i], saved, ranges)
	}
	switch {
	case g.held == 0:
		r.retire(g)
	case !f.indexed:
		r.toIndex = append(r.toIndex, g)
		r.nudge()
	}
	if g.size-g.end > r.limits.segment/64 {
		r.trim(g)
	}
	if g.idle() {
		g.pageOut() // immediately, so that a start with a large backlog needs no more memory than normal operation
	}
}

// entries sets the state of each record, and counts those that the saved state does not include.
func (r *recovery) entries(g *segment, names []string, ranges []byte) {
	classes := make([]*class, len(names))
	walk := newGoneWalk(g.base, ranges)
	to := backlog
	if g.locked {
		to = locked
	}
	for i := range g.entries {
		e := &g.entries[i]
		k, seq := e.class, g.seq(i)
		e.class = 0
		r.top, r.newest = max(r.top, seq), max(r.newest, e.arrived)
		if e.due != 0 && (g.due == 0 || e.due < g.due) {
			g.due = e.due
		}
		if walk.gone(seq) {
			continue
		}
		if classes[k] == nil { // only now: a class without remaining records may have been forgotten
			classes[k] = r.class(names[k])
		}
		c := classes[k]
		e.class = c.index
		r.fates.forget(seq) // its Append failed, but the record reached the disk
		if seq > r.counted {
			c.appended++
		}
		r.move(g, i, to)
	}
	g.goneDirty = true
}

// damaged counts the loss of a damaged place. Records that the state had counted show up as missing in balance. Later ones are counted here, one for
// each place: header and payload of one record are adjacent.
func (r *recovery) damaged(g *segment, d *damage, saved *savedSegment, ranges []byte) {
	at := hole{uint32(d.Offset), uint32(d.Length)} // a segment is below 4 GiB
	g.holes = append(g.holes, at)
	if saved != nil && slices.Contains(saved.holes, at) {
		return
	}
	if d.Seq > 0 && newGoneWalk(g.base, ranges).gone(d.Seq) {
		return // the record was gone already
	}
	r.top = max(r.top, d.Seq)
	if d.proven && max(d.last, d.Seq) > r.counted {
		c := r.class(d.Class)
		c.appended++
		r.drop(c, ReasonQuarantined)
	}
	if d.proven && d.Seq > 0 {
		r.fates.add(d.Seq, d.Seq, ReasonQuarantined)
	}
	d.Found = time.Now()
	d.Kept = r.keep(d.Damage, d.bytes)
	if d.proven {
		r.note(d.Damage)
	} else {
		r.damages = append(r.damages, d.Damage)
	}
}

// resume sets the next sequence. It reuses none that may have been exported.
func (r *recovery) resume() {
	s := r.Spool
	from := max(s.next, r.top+1)
	if found := max(r.top, r.counted) + 1; found < from {
		s.fates.add(found, from-1, FateSkipped) // assigned to a commit that the crash prevented
	}
	s.next = from
	switch {
	case r.unknown, r.st == nil && s.epoch != "":
		s.next += afterLoss // or the state is lost and the epoch came from a segment
	case r.weak:
		s.next = max(s.next, r.st.reserved)
	}
	if s.next > from {
		s.fates.add(from, s.next-1, FateSkipped)
	}
	if s.epoch == "" {
		s.epoch = newEpoch()
		s.origin = s.epoch
	}
	s.counted = s.next - 1
	s.clockBase = max(s.clockBase, time.Duration(r.newest)*tickLength) // the state may be lost or older than the crash
	s.dirty = true
}

// balance makes the counts of each class consistent. If more records were counted than found, the difference is damage, since no record leaves the
// disk before both slots record it as gone; only if commits do not sync, the crash lost them. If more are found than counted, they belong to a commit
// that was reported as failed.
func (r *recovery) balance() {
	why := ReasonQuarantined
	if r.weak {
		why = ReasonLost
	}
	for _, c := range r.classes {
		have := c.done + c.held
		for _, n := range c.dropped {
			have += n
		}
		switch {
		case have > c.appended:
			c.appended = have
		case have < c.appended:
			c.dropped[why] += c.appended - have
		}
	}
}
