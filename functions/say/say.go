// Package say limits repeated log lines: Once for a state that lasts, Every for an event that recurs.
//
//	if s.once.New("connect", err.Error()) {      // the first time, and whenever the text changes
//	if n, ok := s.every.Due("oversized"); ok {   // at most once per interval; n is the number of occurrences since the last line
//
// Both decide whether to log and leave the line to the caller, so that metrics still count each occurrence. Both are safe for concurrent use, and
// hold at most maxKeys keys: a key may come from outside, such as a topic.
package say

import (
	"cmp"
	"maps"
	"strings"
	"sync"
	"time"
)

// Logger is the part of EdgeX's LoggingClient that the packages of this service use.
type Logger interface {
	Debugf(format string, args ...any)
	Infof(format string, args ...any)
	Warnf(format string, args ...any)
	Errorf(format string, args ...any)
}

// maxKeys bounds the memory of a limiter. Once reports no further keys; Every first removes those whose interval has passed.
const maxKeys = 1000

// Once reports a text when it is new for its key. The zero Once is ready.
type Once struct {
	Max int // keys; 0 for 1,000

	mu   sync.Mutex
	last map[string]string
}

// New reports whether text differs from the latest text of the key, and remembers it. The empty text means that the problem has ended: it is never
// reported, and the next text is new again.
func (o *Once) New(key, text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if text == "" {
		delete(o.last, key)
		return false
	}
	last, known := o.last[key]
	if known && last == text || !known && len(o.last) >= cmp.Or(o.Max, maxKeys) {
		return false
	}
	if o.last == nil {
		o.last = map[string]string{}
	}
	o.last[strings.Clone(key)] = strings.Clone(text) // both may point into an event
	return true
}

// Changed is New for an error; nil is the empty text.
func (o *Once) Changed(key string, err error) bool {
	if err == nil {
		return o.New(key, "")
	}
	return o.New(key, err.Error())
}

// Known reports whether the key has a reported problem that has not ended.
func (o *Once) Known(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, known := o.last[key]
	return known
}

// Keep ends the problems of all other keys.
func (o *Once) Keep(keys map[string]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.last, func(key, _ string) bool { return !keys[key] })
}

// Clear removes all keys.
func (o *Once) Clear() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.last)
}

// Every reports at most one occurrence per key and interval. Create it with NewEvery.
type Every struct {
	interval time.Duration
	mu       sync.Mutex
	keys     map[string]*occurrences
	forgot   time.Time // time of the last removal of keys
}

type occurrences struct {
	at    time.Time // of the latest report
	since int       // occurrences after it
}

// NewEvery returns a limiter with the shortest time between two reports of one key.
func NewEvery(interval time.Duration) *Every {
	return &Every{interval: interval, keys: map[string]*occurrences{}}
}

// Due counts an occurrence. When a report is due it returns the number of occurrences since the previous one, this one included.
func (e *Every) Due(key string) (count int, due bool) { return e.Add(key, 1) }

// Add is Due for n occurrences together.
func (e *Every) Add(key string, n int) (count int, due bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now() // with a monotonic reading
	k := e.keys[key]
	if k == nil {
		if len(e.keys) >= maxKeys && !e.forget(now) {
			return 0, false
		}
		k = &occurrences{}
		e.keys[strings.Clone(key)] = k
	}
	k.since += n
	if !k.at.IsZero() && now.Sub(k.at) < e.interval {
		return 0, false
	}
	count, k.at, k.since = k.since, now, 0
	return count, true
}

// forget makes room for a key, and reports whether there is any. It searches once per interval, so that a flood of keys does not cost a search each.
func (e *Every) forget(now time.Time) bool {
	if now.Sub(e.forgot) < e.interval {
		return false
	}
	e.forgot = now
	maps.DeleteFunc(e.keys, func(_ string, k *occurrences) bool { return now.Sub(k.at) >= e.interval })
	return len(e.keys) < maxKeys
}

// String is the interval, for "(similar messages suppressed for %s)".
func (e *Every) String() string { return e.interval.String() }
