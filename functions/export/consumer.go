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

// openAnnouncement opens a consumer's announcement on the client's goroutine, and passes it to the owner of the window.
func (x *Exporter) openAnnouncement(s *mqtt.Session, msg []byte) {
	a, err := x.deps.Opener.OpenAnnouncement(msg)
	switch {
	case errors.Is(err, seal.ErrForged):
		x.wrongReceipt("announcement_forged", err.Error())
		return
	case err != nil:
		x.wrongReceipt("announcement_unreadable", err.Error())
		return
	}
	select {
	case x.events <- func() { x.announced(a) }:
	case <-s.Lost():
	}
}

func (x *Exporter) announced(a *seal.Announcement) {
	now := time.Now()
	x.greeted = quote(a.Consumer)
	x.maxMessage, x.maxData = lowest{}, lowest{} // the consumer may have replaced the others
	x.obey(a.Limits, now)
	silent := x.window.silent()
	x.window.announced(now)
	x.stats.do(func(s *Stats) { s.Repeats++ })
	if silent && !x.window.silent() {
		x.deps.Log.Infof("consumer subscribed, repeating batches without a receipt: consumer=%s", quote(a.Consumer))
	}
}

// silence returns a text about missing receipts and the remedy. A broker may accept a subscription and still deliver nothing, as mosquitto does for a
// topic that its access list denies; silence is the only symptom of that.
func (x *Exporter) silence() string {
	topic := seal.ReceiptTopic(x.deps.Node)
	text := fmt.Sprintf("the broker acknowledges batches, but no receipt has arrived for %s; all records are kept: ", x.cfg.ReceiptTimeout)
	if x.greeted == "" {
		return text + fmt.Sprintf("start offload-cloud for node %q at this broker, and check that the broker's access rules let it read %s/# and publish to %s, and let this node read %s",
			x.deps.Node, seal.TopicRoot+x.deps.Node, topic, topic)
	}
	return text + fmt.Sprintf("consumer=%s has announced itself at this broker; start offload-cloud if it is not running; otherwise check that the broker's access rules let this node read %s, and the consumer read %s/# and publish to %s",
		x.greeted, topic, seal.TopicRoot+x.deps.Node, topic)
}

// leastMessage is the lower bound for a consumer's limit: nothing would leave below it.
const leastMessage = 4 << 10

// limitsLast is how long a limit lasts that receipts no longer name. Several consumers may share a subscription, with different limits.
const limitsLast = time.Minute

// lowest is the lowest limit that statements have named lately, 0 for none.
type lowest struct {
	bytes int64
	named time.Time
}

func (l *lowest) see(bytes int64, now time.Time) int64 {
	if bytes > 0 {
		bytes = max(bytes, leastMessage)
	}
	if l.bytes == 0 || bytes > 0 && bytes <= l.bytes || now.Sub(l.named) >= limitsLast {
		l.bytes, l.named = bytes, now
	}
	return l.bytes
}

// obey applies the limits that a consumer announced.
func (x *Exporter) obey(l seal.ConsumerLimits, now time.Time) {
	if l == (seal.ConsumerLimits{}) {
		return
	}
	l = seal.ConsumerLimits{MaxMessage: x.maxMessage.see(l.MaxMessage, now), MaxData: x.maxData.see(l.MaxData, now)}
	if l == x.consumer {
		return
	}
	x.consumer = l
	x.deps.Sealer.Obey(l)
	x.window.limitsChanged(now)
	x.stats.do(func(s *Stats) { s.Consumer = l })
	x.deps.Log.Infof("consumer announced its limits: messageBytes=%d payloadBytes=%d", l.MaxMessage, l.MaxData)
}

// conflictPause prevents several receipts that name the same conflict from starting more than one epoch.
const conflictPause = 10 * time.Second

// conflict begins a new epoch: under the current one the consumer has records of another spool. Batches in flight are sent again under the new epoch.
func (x *Exporter) conflict(at []seal.Range, now time.Time) {
	x.stats.failed("conflict")
	if now.Sub(x.conflictAt) < conflictPause {
		return
	}
	x.conflictAt = now
	x.setAside()
	old := x.deps.Spool.Epoch()
	fresh, err := x.deps.Spool.NewEpoch()
	if err != nil {
		x.holds.set(holdEpoch, "", fmt.Sprintf("the consumer holds other records under epoch %s, and a new one could not be begun: %v", old, err))
		x.complain("epoch", err)
		return
	}
	x.holds.clear(holdEpoch)
	x.window.release() // the leases ended with the epoch
	x.stats.do(func(s *Stats) { s.Epochs++ })
	x.deps.Log.Warnf("epoch conflict, sending all records again under a new epoch: node=%q epoch=%s seq=%d newEpoch=%s: the consumer holds other records under these numbers; "+
		"this spool is a copy, or another gateway has the same name. Give each gateway its own Offload.Node", x.deps.Node, old, at[0].First, fresh)
}

// wrongReceipt counts and logs a rejected statement. It is safe for concurrent use.
func (x *Exporter) wrongReceipt(kind, why string) {
	x.stats.failed(kind)
	if count, due := x.wrong.Due(kind); due {
		x.deps.Log.Warnf("statement of the consumer rejected: reason=%s count=%d detail=%q (similar messages suppressed for %v)", kind, count, why, x.wrong)
	}
}

// maxPacket fits a statement, and a result as large as a batch.
const maxPacket = 4 << 20

// quote quotes and truncates text from outside.
func quote(s string) string { return fmt.Sprintf("%.64q", s) }

// rival handles a connection that the other side closed. worked means that it had been useful until then, or was idle, and that the broker is still
// there.
func (x *Exporter) rival(worked bool, lived time.Duration, cause error) {
	if !worked {
		x.rivals.Doubt()
		x.rivalry(lived)
		return
	}
	if !x.rivals.Lost(lived, cause) {
		x.rivalry(lived)
		return
	}
	x.window.fighting = true
	x.stats.failed("rival")
	x.holds.set(holdRival, "", fmt.Sprintf("the broker closed %d working connections: another client probably uses ClientID %q; give each gateway its own Export.ClientID or Offload.Node",
		x.rivals.Closed(), x.clientID()))
}

// rivalry clears the suspicion of a rival after a connection has lasted long enough.
func (x *Exporter) rivalry(lived time.Duration) {
	if x.window.fighting && !x.rivals.Suspected(lived) {
		x.window.fighting = false
		x.holds.clear(holdRival)
	}
}

func (x *Exporter) clientID() string {
	if x.cfg.ClientID != "" {
		return x.cfg.ClientID
	}
	return clientID(x.deps.Node)
}

// afterStart is the time after a start in which a receipt for another session is taken for one of the start before, and not of a copy of the spool.
// Neither confirms anything.
const afterStart = time.Minute

// openReceipt opens a receipt on the client's goroutine and passes it to the owner of the window. Receipts that are untrusted, or for another life of
// the spool, are counted and ignored.
func (x *Exporter) openReceipt(s *mqtt.Session, msg []byte) {
	r, err := x.deps.Opener.OpenReceipt(msg)
	switch {
	case errors.Is(err, seal.ErrForged):
		x.wrongReceipt("receipt_forged", err.Error())
	case err != nil:
		x.wrongReceipt("receipt_unreadable", err.Error())
	case r.Node != x.deps.Node:
		x.wrongReceipt("receipt_foreign", fmt.Sprintf("addressed to node %s", quote(r.Node)))
	case r.Session != "" && r.Session != x.deps.Spool.Session() && time.Now().Before(x.earlier):
		x.stats.failed("receipt_late") // what was in flight at a crash is receipted after it
	case r.Session != "" && r.Session != x.deps.Spool.Session():
		x.wrongReceipt("receipt_session", fmt.Sprintf("for session %s, but this node's session is %s: from an earlier start or a copy of this spool", quote(r.Session), x.deps.Spool.Session()))
	case r.Epoch != x.deps.Spool.Epoch() && r.Session != "":
		x.stats.failed("receipt_late") // for an epoch that this session has left
	case r.Epoch != x.deps.Spool.Epoch():
		x.wrongReceipt("receipt_foreign", fmt.Sprintf("for epoch %s, but this node's epoch is %s", quote(r.Epoch), x.deps.Spool.Epoch()))
	default:
		select {
		case x.events <- func() { x.receipt(r) }:
		case <-s.Lost():
		}
	}
}

// receipt runs on the owner's goroutine. It confirms only records in flight: a receipt cannot remove records that were never sent.
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
		x.queueGone(gaps, now)
	}
}

// confirm ends records in the spool that are safe.
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
	maxGap    = 1 << 16         // runs of sequences looked up for one receipt; the consumer asks for the rest again
	beyond    = 1 << 12         // sequences looked up after the last gap, since a receipt lists only so many gaps
	goneAgain = 5 * time.Second // interval before the same statement is repeated
)

// queueGone queues a statement about gaps that will never be filled. Records still in the spool are in flight or will be sent.
func (x *Exporter) queueGone(gaps []seal.Range, now time.Time) {
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
		x.complain("gone", fmt.Errorf("sealing a statement of gone records: %w", err))
		return
	}
	x.lastGone, x.goneAt = text, now
	x.statements = append(x.statements[:0], job{topic: seal.GoneTopic(x.deps.Node), message: msg})
	x.stats.do(func(s *Stats) { s.Gone += count })
}

// fates returns the gone sequences of the gaps by reason, and those known to be gone right after them. It works by runs of sequences: after a loss of
// the spool's state one gap may contain 2^40 sequences.
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

// known returns the fate of a sequence that the consumer has not asked for: only records that the spool certainly dropped.
func (x *Exporter) known(seq, floor uint64) (reason string, last uint64) {
	if f, last := x.deps.Spool.FateRun(seq); f == spool.FateUnknown || f == spool.FateDone {
		return "", last
	}
	return x.fate(seq, floor)
}

// fate returns why a sequence, and those after it up to last, will never arrive; "" if they still may.
func (x *Exporter) fate(seq, floor uint64) (reason string, last uint64) {
	switch f, last := x.deps.Spool.FateRun(seq); {
	case f == spool.FateHeld:
		return "", last
	case f == spool.FateUnknown && seq >= floor:
		return "", last // not assigned yet
	case f == spool.FateUnknown:
		return "unknown", min(last, floor-1) // older than the spool's history
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

// openResult opens a result on the client's goroutine.
func (x *Exporter) openResult(msg []byte) {
	r, err := x.deps.Opener.OpenResult(msg)
	switch {
	case errors.Is(err, seal.ErrForged):
		x.stats.failed("result_forged")
	case err != nil:
		x.stats.failed("result_unreadable")
	case r.Node != x.deps.Node:
		x.stats.failed("result_foreign")
	default:
		x.stats.do(func(s *Stats) { s.Results++ })
		if x.deps.OnResult != nil {
			x.deps.OnResult(*r)
		}
	}
}

const (
	maxConfirming  = 4096 // results waiting to be confirmed
	confirmResults = 512  // in one message
)

// Confirm informs the cloud that results were processed, once and at QoS 1. It does not block: without a connection the confirmations wait for the
// next one; if too many wait, they are dropped and counted. The cloud sends results again whose confirmation is dropped, or lost with a connection.
// It is safe for concurrent use.
func (x *Exporter) Confirm(results []seal.ConfirmedResult) {
	select {
	case x.events <- func() {
		if len(x.confirming)+len(results) <= maxConfirming {
			x.confirming = append(x.confirming, results...)
		} else {
			x.stats.failed("confirm_full")
		}
	}:
	default:
		x.stats.failed("confirm_full")
	}
}

// confirm queues a message that confirms some results. The caller has checked that a job fits.
func (r *round) confirm(now time.Time) {
	x := r.x
	n := min(len(x.confirming), confirmResults)
	msg, err := x.deps.Sealer.SealConfirmation(nil, &seal.Confirmation{
		ID: fmt.Sprintf("confirm-%s-%d", x.deps.Spool.Session(), now.UnixNano()), Node: x.deps.Node, Created: now, Results: x.confirming[:n],
	})
	x.confirming = append(x.confirming[:0], x.confirming[n:]...)
	if err != nil {
		x.complain("confirm", fmt.Errorf("sealing a confirmation of results: %w", err))
		return
	}
	r.jobs <- job{topic: seal.ConfirmTopic(x.deps.Node), message: msg}
	x.stats.do(func(s *Stats) { s.Confirmed += uint64(n) })
}

// maxLetters is the maximum number of messages of other parts that wait for a connection.
const maxLetters = 64

// Send sends a message of another part of the node over the exporter's connection, once and at QoS 1. It does not block: without a connection the
// message waits for the next one; if too many wait, it is dropped and counted. A message in flight when its connection ends is lost, so the sender
// must know when to send it again. It is safe for concurrent use.
func (x *Exporter) Send(topic string, message []byte) {
	select {
	case x.events <- func() {
		if len(x.letters) < maxLetters {
			x.letters = append(x.letters, job{topic: topic, message: message})
		} else {
			x.stats.failed("letters_full")
		}
	}:
	default:
		x.stats.failed("letters_full")
	}
}

// deliverLetter passes a message to the part of the node that owns its topic, and reports whether there is one.
func (x *Exporter) deliverLetter(topic string, message []byte) bool {
	receive := x.deps.Topics()[topic]
	if receive == nil {
		return false
	}
	receive(message)
	return true
}

// logDropped logs the first record of a reason, and later ones rarely: there may be thousands, and the spool counts all of them by class and reason.
func (x *Exporter) logDropped(a aside) {
	count, due := x.asides.Add(a.reason, len(a.seqs))
	if !due {
		x.deps.Log.Debugf("dropping record: seq=%d class=%q bytes=%d reason=%s", a.seqs[0], a.class, a.bytes, a.reason)
		return
	}
	x.deps.Log.Warnf("dropping record: seq=%d class=%q bytes=%d reason=%s detail=%q count=%d (similar messages suppressed for %v)",
		a.seqs[0], a.class, a.bytes, a.reason, a.detail, count, x.asides)
}

var explain = map[string]string{
	reasonUnreceipted: "the broker acknowledges it but the consumer never receives it; check for a size limit or an access rule at the broker",
	reasonMalformed:   "cannot be sealed, while other records of its class can",
}
