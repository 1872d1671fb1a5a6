package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Severity is the urgency of a reason for an operator.
type Severity int

// The severities, in ascending order.
const (
	Fine     Severity = iota // there is no such reason
	Note                     // for information; the service is well
	Warning                  // should be investigated; events are accepted and no loss is uncounted
	Critical                 // events are not accepted or not processed: the service is not ready
)

var severities = []string{"fine", "note", "warning", "critical"}

// String returns the severity's name, as in JSON.
func (s Severity) String() string { return severities[s] }

// MarshalText writes the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name.
func (s *Severity) UnmarshalText(text []byte) error {
	i := slices.Index(severities, string(text))
	if i < 0 {
		return fmt.Errorf("severity %q: use one of %s", text, strings.Join(severities, ", "))
	}
	*s = Severity(i)
	return nil
}

// Reason is one problem of the service.
type Reason struct {
	Code     string    `json:"code"` // one word, stable
	Text     string    `json:"text"` // for people: the problem, with its numbers, and the remedy
	Since    time.Time `json:"since"`
	Severity Severity  `json:"severity"`
}

// Health is the state of the service, with every reason for it, the most severe first.
type Health struct {
	State   string   `json:"state"` // "well", "degraded" or "failing"
	Reasons []Reason `json:"reasons"`
}

// The states of Health. A service that is well or degraded is ready.
const (
	Well     = "well"     // no reason above a note
	Degraded = "degraded" // the worst is a warning
	Failing  = "failing"  // at least one is critical
)

// NewHealth sorts the reasons and derives the state.
func NewHealth(reasons []Reason) Health {
	slices.SortStableFunc(reasons, func(a, b Reason) int { return cmp.Compare(b.Severity, a.Severity) })
	h := Health{State: Well, Reasons: reasons}
	switch worst := h.worst(); worst {
	case Warning:
		h.State = Degraded
	case Critical:
		h.State = Failing
	}
	return h
}

func (h Health) worst() Severity {
	if len(h.Reasons) == 0 {
		return Fine
	}
	return h.Reasons[0].Severity
}

// Ready reports whether events are accepted and processed.
func (h Health) Ready() bool { return h.State != Failing }

// Texts returns the texts of the reasons of at least that severity, the worst first.
func (h Health) Texts(least Severity) []string {
	texts := []string{}
	for _, r := range h.Reasons {
		if r.Severity >= least {
			texts = append(texts, r.Text)
		}
	}
	return texts
}

// Severity returns the severity of the reason with a code, Fine without such a reason.
func (h Health) Severity(code string) Severity {
	for _, r := range h.Reasons {
		if r.Code == code {
			return r.Severity
		}
	}
	return Fine
}

// Several formats a number with its noun: 1 task, 2 tasks.
func Several[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Spelled converts a name such as tooLarge or too_large to words.
func Spelled(name string) string {
	var b strings.Builder
	for _, r := range name {
		switch {
		case r == '_':
			b.WriteByte(' ')
		case unicode.IsUpper(r):
			b.WriteString(" " + string(unicode.ToLower(r)))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
