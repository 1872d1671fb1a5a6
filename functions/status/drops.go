package status

import (
	"cmp"
	"fmt"
	"time"
)

// Drop is the tasks of one class dropped for one reason.
type Drop struct {
	Class          string `json:"class"`
	Reason         string `json:"reason"`
	Count          uint64 `json:"count"`          // in total
	Unacknowledged uint64 `json:"unacknowledged"` // of these, since the last acknowledgement
	// First and Last are the times, to the second, at which the drop of the first and the last unacknowledged task was noticed, by the clock of that
	// moment; null for drops before this was recorded.
	First *time.Time `json:"first"`
	Last  *time.Time `json:"last"`
}

// String describes the unacknowledged drops.
func (d Drop) String() string {
	text := fmt.Sprintf("class %s %d %s", cmp.Or(d.Class, "unknown"), d.Unacknowledged, Spelled(d.Reason))
	if d.First == nil {
		return text + " before this was noted"
	}
	if d.First.Equal(*d.Last) {
		return text + " at " + d.First.Format(time.RFC3339)
	}
	return text + fmt.Sprintf(" from %s to %s", d.First.Format(time.RFC3339), d.Last.Format(time.RFC3339))
}

// DropStatus is all drops, the latest first.
type DropStatus struct {
	Unacknowledged uint64 `json:"unacknowledged"`
	List           []Drop `json:"list"`
}
