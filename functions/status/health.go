package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Severity says what a reason asks of an operator.
type Severity int

// The severities, in ascending order.
const (
	Fine     Severity = iota // there is no such reason
	Note                     // worth knowing; all is still well
	Warning                  // somebody should look at it; events are taken and nothing is lost by it that was not counted
	Critical                 // events are not taken or not cared for: the service is not ready
)

var severities = []string{"fine", "note", "warning", "critical"}

// String is the severity's name, as JSON has it.
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

// Reason is one thing that is not as it should be.
type Reason struct {
	Code     string    `json:"code"` // one word, stable
	Text     string    `json:"text"` // for people: what is wrong, with its numbers, and what to do
	Since    time.Time `json:"since"`
	Severity Severity  `json:"severity"`
}

// Health is how the service is, with every reason why it is not well, the most severe first.
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

// Ready reports whether events are taken and cared for.
func (h Health) Ready() bool { return h.State != Failing }

// Texts are the texts of the reasons that are at least so severe, the worst first.
func (h Health) Texts(least Severity) []string {
	texts := []string{}
	for _, r := range h.Reasons {
		if r.Severity >= least {
			texts = append(texts, r.Text)
		}
	}
	return texts
}

// Severity is that of the reason with a code, Fine without such a reason.
func (h Health) Severity(code string) Severity {
	for _, r := range h.Reasons {
		if r.Code == code {
			return r.Severity
		}
	}
	return Fine
}

// Several is a number with its noun: 1 task, 2 tasks.
func Several[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Spelled makes words of a name such as tooLarge or too_large.
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
