package functions

import (
	"strings"
	"time"

	"app-offload/functions/status"
)

// recordsHeld lists why records do not leave although the link is up.
func recordsHeld(s *Service, _ *memory) (status.Severity, string) {
	var texts []string
	for _, h := range s.exporter.Stats().Holds {
		texts = append(texts, h.Text)
	}
	return when(len(texts) > 0, status.Warning, "%s", strings.Join(texts, "; "))
}

// statementsRefused holds while receipts and announcements come that are not obeyed.
func statementsRefused(s *Service, m *memory) (status.Severity, string) {
	counts := map[string]uint64{}
	for kind, n := range s.exporter.Stats().Errors {
		if strings.HasPrefix(kind, "receipt_") && kind != "receipt_late" || strings.HasPrefix(kind, "announcement_") {
			counts[kind] = n
		}
	}
	n := m.grown("statements", summed(counts))
	return when(n > 0, status.Warning, "%d receipts or announcements were ignored within the last minute (since the start: %s): they are forged, sealed with another key, or for another node, epoch or copy of this spool; the log says which",
		n, counted(counts))
}

// copiedShown is how long a new epoch is a reason.
const copiedShown = time.Hour

// spoolCopied holds for a while after the node began a new epoch because another spool uses the one before.
func spoolCopied(s *Service, m *memory) (status.Severity, string) {
	n := s.exporter.Stats().Epochs
	m.grown("epochs", n)
	at := m.grew("epochs")
	return when(!at.IsZero() && m.clock.Time().Sub(at) < copiedShown, status.Warning, "the consumer holds records of another spool under this node's name and epoch: a disk was copied or restored, or two gateways are called %q. "+
		"The node began %d new epochs and sends its records under them; give each gateway its own Offload.Node", s.cfg.Node, n)
}
