package local

import (
	"fmt"
	"sync"
)

// maxSaid bounds the things that are said once each.
const maxSaid = 1000

// notices says things that a user should know or change, each once. It is safe for concurrent use.
type notices struct {
	mu   sync.Mutex
	to   func(text string)
	said map[string]bool
}

// OnNotice sets who is told, once for each device or resource, what is odd about its data, in one line. It is called before the first task;
// f must not block. Without it nothing is said.
func (p *Processor) OnNotice(f func(text string)) {
	p.notices.mu.Lock()
	p.notices.to = f
	p.notices.mu.Unlock()
}

// say says a text once for its key. Beyond maxSaid keys it says so, and then nothing more.
func (n *notices) say(key, format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.to == nil || n.said[key] || len(n.said) > maxSaid {
		return
	}
	if n.said == nil {
		n.said = map[string]bool{}
	}
	n.said[string(append([]byte(nil), key...))] = true // a name may point into an event
	text := fmt.Sprintf(format, args...)
	if len(n.said) > maxSaid {
		text += " (further messages of this kind are suppressed; the status counts on)"
	}
	n.to(text)
}
