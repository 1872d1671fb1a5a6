package decision

import (
	"fmt"
	"slices"
)

var targetWords = []string{"local", "cloud"}

var armWords = []string{"", "incumbent", "canary"}

var reasonWords = []string{
	"none", "linkDown", "backlog", "neverLeave", "memory", "battery", "price", "outside", "aboveThreshold", "belowThreshold", "localMeets", "localMisses",
	"bothMissLocal", "cheaperLocal", "cheaperCloud", "fixed", "drawn", "explored", "spoolFull", "noOperator", "localFailed",
	"boundLocal", "boundCloud", "longestWait", "undecided", "letGo", "dominated", "hardExample", "judgedHard", "modelBusy",
	"overload", "tooLate", "rerouted", "reduced", "sooner",
}

// String returns "local" or "cloud".
func (t Target) String() string { return word(targetWords, int(t)) }

// MarshalText writes the word, so that JSON says "cloud" rather than 1.
func (t Target) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the word.
func (t *Target) UnmarshalText(b []byte) error {
	i, err := find("target", targetWords, b)
	*t = Target(i)
	return err
}

// String returns "incumbent", "canary", or "" without a canary.
func (a Arm) String() string { return word(armWords, int(a)) }

// MarshalText writes the word.
func (a Arm) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the word.
func (a *Arm) UnmarshalText(b []byte) error {
	i, err := find("arm", armWords, b)
	*a = Arm(i)
	return err
}

// String returns the reason as one word, for metrics and the API.
func (r Reason) String() string { return word(reasonWords, int(r)) }

// MarshalText writes the word.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the word.
func (r *Reason) UnmarshalText(b []byte) error {
	i, err := find("reason", reasonWords, b)
	*r = Reason(i)
	return err
}

// IsGuard reports whether a guard decided, and not the policy.
func (r Reason) IsGuard() bool { return r >= GuardLinkDown && r <= GuardOutside }

// IsOverPolicies reports whether no policy decided. GuardOutside is a decision of a policy.
func (r Reason) IsOverPolicies() bool { return r.IsGuard() && r != GuardOutside }

// IsDrop reports whether the task was dropped rather than sent to a target.
func (r Reason) IsDrop() bool { return r == Overload || r == TooLate }

// WasLocal reports whether a task for the cloud was processed locally first, so that its time includes more than the path to the cloud.
func (r Reason) WasLocal() bool { return r == HardExample || r == LocalFailed }

func word(words []string, i int) string {
	if i >= len(words) {
		return "unknown"
	}
	return words[i]
}

func find(what string, words []string, b []byte) (int, error) {
	if i := slices.Index(words, string(b)); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("reading a %s: %q is not one of %v", what, b, words)
}
