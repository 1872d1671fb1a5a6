package status

import (
	"cmp"
	"fmt"
	"time"
)

// Drop is what was dropped of one class for one reason.
type Drop struct {
	Class          string `json:"class"`
	Reason         string `json:"reason"`
	Count          uint64 `json:"count"`          // ever
	Unacknowledged uint64 `json:"unacknowledged"` // of these, since the last acknowledgement
	// First and Last are when the first and the last unacknowledged task was seen to be dropped, to the second, by the clock of that
	// moment; null where that was before this was noted.
	First *time.Time `json:"first"`
	Last  *time.Time `json:"last"`
}

// String is what is unacknowledged, in words.
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

// DropStatus is all that was dropped, the latest first.
type DropStatus struct {
	Unacknowledged uint64 `json:"unacknowledged"`
	List           []Drop `json:"list"`
}
