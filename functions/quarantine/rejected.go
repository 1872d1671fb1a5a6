package quarantine

import "time"

// Rejected is a payload that was set aside.
type Rejected struct {
	ID          uint64    `json:"id"` // ascending from 1 since the start
	Time        time.Time `json:"time"`
	Reason      string    `json:"reason"`
	Detail      string    `json:"detail"` // like topic and content type at most 512 bytes; the rest is cut
	Topic       string    `json:"topic"`  // on which it came, "" where the trigger does not report it
	ContentType string    `json:"contentType"`
	Size        int       `json:"size"`    // of the payload as it came
	Payload     []byte    `json:"payload"` // its beginning, as much as the bounds allow
}

func (r *Rejected) bytes() int {
	return len(r.Payload) + len(r.Detail) + len(r.Topic) + len(r.ContentType)
}
