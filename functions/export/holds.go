package export

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Hold is a reason why records do not leave although the link is up.
type Hold struct {
	Reason  string    `json:"reason"` // one of the hold… constants
	Class   string    `json:"class,omitempty"`
	Text    string    `json:"text"` // for users, with the remedy
	Records int       `json:"records,omitempty"`
	Since   time.Time `json:"since"` // with a monotonic reading
}

// The reasons of holds.
const (
	holdRefused     = reasonTooLarge    // the broker closes the connection on single records
	holdClass       = "refused"         // the broker closes the connection on all records of a class
	holdOversized   = "oversized"       // single records exceed a known limit
	holdMalformed   = reasonMalformed   // single records cannot be sealed
	holdUnreceipted = reasonUnreceipted // a class gets no receipts while others do
	holdClosing     = "closing"         // the broker closes the connection on everything
	holdSeal        = "seal"            // no key to seal with
	holdSubscribe   = "subscribe"       // the broker refuses the subscription to receipts
	holdDenied      = "denied"          // the broker refuses another subscription
	holdRival       = "rival"           // another client uses the ClientID
	holdEpoch       = "epoch"           // a new epoch could not be begun
)

// holds are the holds that are set and cleared explicitly. The others follow from the window.
type holds struct{ list []Hold }

func (h *holds) set(reason, class, text string) {
	i := h.find(reason, class)
	if i < 0 {
		h.list = append(h.list, Hold{Reason: reason, Class: class, Since: time.Now()})
		i = len(h.list) - 1
	}
	h.list[i].Text = text
}

func (h *holds) clear(reason string) {
	h.list = slices.DeleteFunc(h.list, func(x Hold) bool { return x.Reason == reason })
}

func (h *holds) find(reason, class string) int {
	return slices.IndexFunc(h.list, func(x Hold) bool { return x.Reason == reason && x.Class == class })
}

// closingsSaid is the number of consecutive connections closed by the broker that makes a hold.
const closingsSaid = 4

// held returns all holds, in a stable order.
func (x *Exporter) held(now time.Time) []Hold {
	w := &x.window
	list := slices.Clone(x.holds.list)
	if w.closings >= closingsSaid {
		list = append(list, Hold{Reason: holdClosing, Since: w.closed, Text: fmt.Sprintf(
			"the broker, or a proxy in front of it, closed %d connections in a row when a batch was published; all records are kept: check its log, access rules and size limit", w.closings)})
	}
	for name, c := range w.classes {
		if !c.silent.IsZero() {
			list = append(list, Hold{Reason: holdUnreceipted, Class: name, Since: c.silent, Text: fmt.Sprintf(
				"class %q gets no receipts while others do; its records are kept: check that the broker's access rules let the consumer read %s", name, x.topic(name))})
		}
	}
	groups := map[[2]string]*Hold{}
	listed := w.isolated
	if s := w.remembered[w.trial]; s != nil {
		listed = append(slices.Clone(listed), s)
	}
	for _, s := range listed {
		key := [2]string{s.holdReason(w), s.class}
		h := groups[key]
		if h == nil {
			h = &Hold{Reason: key[0], Class: key[1], Since: s.since, Text: s.text(w)}
			groups[key] = h
		}
		h.Records++
	}
	for _, h := range groups {
		list = append(list, *h)
	}
	slices.SortFunc(list, func(a, b Hold) int { return cmp.Or(cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Class, b.Class)) })
	x.logHolds(list)
	return list
}

// logHolds logs each hold once, when it begins.
func (x *Exporter) logHolds(list []Hold) {
	held := map[string]bool{}
	for _, h := range list {
		key := h.Reason + "\x00" + h.Class
		held[key] = true
		if logged := h.Reason == holdSeal || h.Reason == holdSubscribe || h.Reason == holdEpoch; x.said.New(key, key) && !logged {
			x.deps.Log.Warnf("export held: reason=%s class=%q detail=%q", h.Reason, h.Class, h.Text)
		}
	}
	x.said.Keep(held)
}

func (s *isolated) holdReason(w *window) string {
	switch {
	case s.limit.whose != "":
		return holdOversized
	case s.reason == reasonTooLarge && w.class(s.class).acks == 0:
		return holdClass
	}
	return s.reason
}

// text describes the first record of a kind.
func (s *isolated) text(w *window) string {
	switch {
	case s.limit.whose != "":
		return fmt.Sprintf("record %d of class %q is held: %s", s.seq, s.class, s.limit)
	case s.reason == reasonMalformed:
		return fmt.Sprintf("record %d of class %q cannot be sealed and is held; see the log", s.seq, s.class)
	case w.class(s.class).acks == 0:
		return fmt.Sprintf("the broker closes the connection on every message of class %q, and has accepted none yet; its records are held: check its access rules for the topic of the class and its size limit (the smallest refused has %d bytes)", s.class, s.message)
	}
	return fmt.Sprintf("record %d of class %q is held: the broker closes the connection on its message of %d bytes, the largest it has accepted has %d; raise its limit (such as mosquitto's max_packet_size) or use a smaller ChunkSize",
		s.seq, s.class, s.message, w.largest)
}
