package export

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"app-offload/functions/mqtt"
	"app-offload/functions/seal"
)

// hearAnnouncement opens a consumer's announcement on the client's goroutine and hands it to the owner of the window.
func (x *Exporter) hearAnnouncement(s *mqtt.Session, msg []byte) {
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
	x.obey(a.Limits, now)
	silent := x.window.silent()
	x.window.announced(now)
	x.stats.do(func(s *Stats) { s.Repeats++ })
	if silent && !x.window.silent() {
		x.deps.Log.Infof("consumer subscribed, repeating batches without a receipt: consumer=%s", quote(a.Consumer))
	}
}

// silence says that no receipts come, and what to do. A broker may answer a subscription as if it granted it and deliver nothing, as mosquitto does
// for a topic that its access list denies; silence is all there is to see of that.
func (x *Exporter) silence() string {
	topic := seal.ReceiptTopic(x.deps.Node)
	text := fmt.Sprintf("the broker acknowledges batches, but no receipt has come for %s; all records are kept: ", x.cfg.ReceiptTimeout)
	if x.greeted == "" {
		return text + fmt.Sprintf("start offload-cloud for node %q at this broker, and see that the broker's access rules let it read %s/# and publish to %s, and let this node read %s",
			x.deps.Node, seal.TopicRoot+x.deps.Node, topic, topic)
	}
	return text + fmt.Sprintf("consumer=%s has announced itself at this broker; start offload-cloud if it does not run, else see that the broker's access rules let this node read %s, and the consumer read %s/# and publish to %s",
		x.greeted, topic, seal.TopicRoot+x.deps.Node, topic)
}

// leastMessage is what a consumer's limit is taken for at least: nothing would leave below it.
const leastMessage = 4 << 10

// obey takes over what the consumer takes.
func (x *Exporter) obey(l seal.ConsumerLimits, now time.Time) {
	if l.MaxMessage > 0 {
		l.MaxMessage = max(l.MaxMessage, leastMessage)
	}
	if l.MaxData > 0 {
		l.MaxData = max(l.MaxData, leastMessage)
	}
	if l == x.consumer || l == (seal.ConsumerLimits{}) {
		return
	}
	x.consumer = l
	x.deps.Sealer.Obey(l)
	x.window.limitsChanged(now)
	x.stats.do(func(s *Stats) { s.Consumer = l })
	x.deps.Log.Infof("consumer announced its limits: messageBytes=%d payloadBytes=%d", l.MaxMessage, l.MaxData)
}

// conflictPause keeps one conflict that several receipts name from costing more than one epoch.
const conflictPause = 10 * time.Second

// conflict begins a new epoch: under this one the consumer has records of another spool. What is in flight leaves again under it.
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
		x.holds.set(holdEpoch, "", fmt.Sprintf("the consumer holds other records under epoch %s, and no new one could be begun: %v", old, err))
		x.complain("epoch", err)
		return
	}
	x.holds.clear(holdEpoch)
	x.window.release() // the leases have ended
	x.stats.do(func(s *Stats) { s.Epochs++ })
	x.deps.Log.Warnf("epoch conflict, sending all records again under a new epoch: node=%q epoch=%s seq=%d newEpoch=%s: the consumer holds other records under these numbers; "+
		"this spool is a copy, or another gateway has the same name. Give each gateway its own Offload.Node", x.deps.Node, old, at[0].First, fresh)
}

// wrongReceipt counts and logs a statement that is not obeyed. It may be called from several goroutines.
func (x *Exporter) wrongReceipt(kind, why string) {
	x.stats.failed(kind)
	if count, due := x.wrong.Due(kind); due {
		x.deps.Log.Warnf("statement of the consumer rejected: reason=%s count=%d detail=%q (similar messages suppressed for %v)", kind, count, why, x.wrong)
	}
}

// maxPacket holds a statement, and a result as large as a batch may be.
const maxPacket = 4 << 20

func (x *Exporter) maxPacket() int { return cmp.Or(x.deps.MaxPacket, maxPacket) }

// oversized is called while a message is skipped, on the goroutine that reads.
func (x *Exporter) oversized(o mqtt.Oversized) {
	x.wrongReceipt("oversized", fmt.Sprintf("a message of %d bytes on %s was skipped, more than %d are not read: who publishes there?", o.Size, quote(o.Topic), x.maxPacket()))
}

// quote shortens what somebody else wrote.
func quote(s string) string { return fmt.Sprintf("%.64q", s) }

// denied notes a subscription that the node can do without. It is called while a connection is made.
func (x *Exporter) denied(topic string) {
	x.wrongReceipt("subscription_denied", fmt.Sprintf("the broker refuses the subscription to %s: allow the node to read it", topic))
}

// rival books that the other side ended a connection. worked says that it had been of use until then, or was idle.
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
	x.holds.set(holdRival, "", fmt.Sprintf("the broker has closed %d connections that worked: another client probably uses ClientID %q; give each gateway its own Export.ClientID or Offload.Node",
		x.rivals.Closed(), x.clientID()))
}

// rivalry ends the suspicion once a connection has lived for some time.
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
