package export

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"app-offload/functions/mqtt"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
)

// hearReceipt opens a receipt on the client's goroutine and hands what it says to the owner of the window. What cannot
// be trusted or is about another life of the spool is counted and ignored.
func (x *Exporter) hearReceipt(s *mqtt.Session, msg []byte) {
	r, err := x.deps.Opener.OpenReceipt(msg)
	switch {
	case errors.Is(err, seal.ErrForged):
		x.wrongReceipt("receipt_forged", err.Error())
	case err != nil:
		x.wrongReceipt("receipt_unreadable", err.Error())
	case r.Node != x.deps.Node:
		x.wrongReceipt("receipt_foreign", fmt.Sprintf("it is for node %s", quote(r.Node)))
	case r.Session != "" && r.Session != x.deps.Spool.Session():
		x.wrongReceipt("receipt_session", fmt.Sprintf("it is for session %s, and this node's is %s: an earlier start or a copy of this spool", quote(r.Session), x.deps.Spool.Session()))
	case r.Epoch != x.deps.Spool.Epoch() && r.Session != "":
		x.stats.failed("receipt_late") // of an epoch that this session has left
	case r.Epoch != x.deps.Spool.Epoch():
		x.wrongReceipt("receipt_foreign", fmt.Sprintf("it is for epoch %s, and this node's is %s", quote(r.Epoch), x.deps.Spool.Epoch()))
	default:
		select {
		case x.events <- func() { x.receipt(r) }:
		case <-s.Lost():
		}
	}
}

// receipt runs on the owner's goroutine. Only records under way are confirmed: a receipt cannot remove from the spool
// what was never sent.
func (x *Exporter) receipt(r *seal.Receipt) {
	now := time.Now()
	x.window.alive(now)
	x.obey(r.Limits, now)
	silent := x.window.silent()
	x.confirm(x.window.receipt(ascending(r.Safe), now))
	if silent && !x.window.silent() {
		x.deps.Log.Infof("receipts resumed")
	}
	if len(r.Conflicts) > 0 && r.Session != "" {
		x.conflict(r.Conflicts, now)
		return
	}
	if len(r.Gaps) > 0 {
		gaps := ascending(r.Gaps)
		x.window.gaps(gaps, now)
		x.sayGone(gaps, now)
	}
}

// confirm lets the spool forget what is safe.
func (x *Exporter) confirm(records []spool.Record) {
	if len(records) == 0 {
		return
	}
	x.deps.Spool.Done(appendSequences(make([]uint64, 0, len(records)), records))
	x.stats.do(func(s *Stats) { s.Receipted += uint64(len(records)) })
	if x.deps.OnReceipted != nil {
		x.deps.OnReceipted(records)
	}
}

const (
	maxGap    = 1 << 16         // runs of sequences looked up for one receipt; the consumer asks again for the rest
	beyond    = 1 << 12         // of them behind the last gap, since a receipt names only so many, and there may be more
	goneAgain = 5 * time.Second // the same statement is not repeated sooner
)

// sayGone queues a statement about those gaps that will never be filled. What the spool still holds is either on its
// way or will be sent in its turn.
func (x *Exporter) sayGone(gaps []seal.Range, now time.Time) {
	ranges, count := x.fates(gaps)
	if len(ranges) == 0 {
		return
	}
	text := fmt.Sprint(ranges)
	if text == x.lastGone && now.Sub(x.goneAt) < goneAgain {
		return
	}
	msg, err := x.deps.Sealer.SealGone(nil, &seal.Gone{
		ID: fmt.Sprintf("gone-%s-%d-%d", x.deps.Spool.Epoch(), ranges[0].First, now.UnixNano()), Node: x.deps.Node,
		Epoch: x.deps.Spool.Epoch(), Created: now, Ranges: ranges,
	})
	if err != nil {
		x.complain("gone", fmt.Errorf("sealing a statement of what is gone: %w", err))
		return
	}
	x.lastGone, x.goneAt = text, now
	x.statements = append(x.statements[:0], job{topic: seal.GoneTopic(x.deps.Node), message: msg})
	x.stats.do(func(s *Stats) { s.Gone += count })
}

// fates groups the sequences of the gaps that are gone by reason, and those known to be gone right behind them. It goes by runs of
// sequences: after a loss of the spool's state one gap may span a million million.
func (x *Exporter) fates(gaps []seal.Range) (ranges []seal.GoneRange, count uint64) {
	floor := x.deps.Spool.Floor()
	looked := 0
	look := func(g seal.Range, fate func(seq, floor uint64) (string, uint64)) {
		for seq := g.First; looked < maxGap; looked++ {
			reason, last := fate(seq, floor)
			last = min(last, g.Last)
			if reason != "" {
				ranges = appendGone(ranges, seal.Range{First: seq, Last: last}, reason)
			}
			if reason != "" && reason != spool.FateSkipped {
				count += last - seq + 1
			}
			if last == g.Last {
				break
			}
			seq = last + 1
		}
	}
	for _, g := range gaps {
		look(g, x.fate)
	}
	if len(ranges) == 0 {
		return nil, 0
	}
	if last := gaps[len(gaps)-1].Last; last < math.MaxUint64-beyond {
		look(seal.Range{First: last + 1, Last: last + beyond}, x.known)
	}
	return ranges, count
}

// known is the fate of a sequence that the consumer has not asked for: only records that the spool certainly gave up count.
func (x *Exporter) known(seq, floor uint64) (reason string, last uint64) {
	if f, last := x.deps.Spool.FateRun(seq); f == spool.FateUnknown || f == spool.FateDone {
		return "", last
	}
	return x.fate(seq, floor)
}

// fate is why a sequence, and those behind it up to last, will never come; "" when they still may.
func (x *Exporter) fate(seq, floor uint64) (reason string, last uint64) {
	switch f, last := x.deps.Spool.FateRun(seq); {
	case f == spool.FateHeld:
		return "", last
	case f == spool.FateUnknown && seq >= floor:
		return "", last // not given out yet
	case f == spool.FateUnknown:
		return "unknown", min(last, floor-1) // too long ago for the spool to remember
	default:
		return strings.TrimPrefix(f, "dropped:"), last
	}
}

func appendGone(ranges []seal.GoneRange, r seal.Range, reason string) []seal.GoneRange {
	if n := len(ranges); n > 0 && ranges[n-1].Reason == reason && ranges[n-1].Last+1 == r.First {
		ranges[n-1].Last = r.Last
		return ranges
	}
	return append(ranges, seal.GoneRange{Range: r, Reason: reason})
}
