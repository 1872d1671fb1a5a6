package seal

import (
	"errors"
	"fmt"
	"strings"
)

// ErrForged marks a message that no holder of the key sealed in this form: altered, moved, or not sealed although it must be.
var ErrForged = errors.New("message is forged or was altered in transit")

// UnknownKeyError reports that no key opens the message. A later rotation may fix that: keep the message.
type UnknownKeyError struct {
	KeyID string
	Err   error // from the key store, may be nil
}

func (e *UnknownKeyError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("key %q is not available: %v", e.KeyID, e.Err)
	}
	return fmt.Sprintf("key %q is not available", e.KeyID)
}

func (e *UnknownKeyError) Unwrap() error { return e.Err }

// TooLargeError reports which limit a message or its content exceeds.
type TooLargeError struct {
	What  string // message, data or records
	Size  int64  // -1 if only the excess is known
	Limit int64
	Whose string // the limit's owner: a configuration key or the consumer; "" if it is the reader's own
}

func (e *TooLargeError) Error() string {
	if e.Size < 0 {
		return fmt.Sprintf("%s exceeds the limit of %d", e.What, e.Limit)
	}
	if e.Whose != "" {
		return fmt.Sprintf("%s of %d bytes exceeds %s of %d", e.What, e.Size, e.Whose, e.Limit)
	}
	return fmt.Sprintf("%s of %d exceeds the limit of %d", e.What, e.Size, e.Limit)
}

// MalformedError reports what in a message or batch violates the format. A retry does not help.
type MalformedError struct {
	What string
	Err  error // may be nil
}

func (e *MalformedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("malformed %s: %v", e.What, e.Err)
	}
	return "malformed " + e.What
}

func (e *MalformedError) Unwrap() error { return e.Err }

// ExhaustedError reports that a key has sealed as many messages as is safe: seal with a new one.
type ExhaustedError struct {
	KeyID string
	Limit uint64
}

func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("key %q has sealed %d messages: rotate it", e.KeyID, e.Limit)
}

// malformed limits the length of err's text: it may quote input as long as a message, and consumers store the text.
func malformed(what string, err error) error {
	if text := err.Error(); len(text) > maxErrorText {
		err = errors.New(shorten(text))
	}
	return &MalformedError{What: what, Err: err}
}

// malformedf truncates its string arguments before they are formatted.
func malformedf(what, format string, args ...any) error {
	for i, a := range args {
		switch a := a.(type) {
		case string:
			args[i] = shorten(a)
		case []byte:
			args[i] = shorten(string(a[:min(len(a), maxErrorText)]))
		}
	}
	return malformed(what, fmt.Errorf(format, args...))
}

const (
	maxErrorText = 1024
	maxQuoted    = 128
)

// shorten truncates a long string from outside.
func shorten(s string) string {
	if len(s) <= maxQuoted {
		return s
	}
	return strings.ToValidUTF8(s[:maxQuoted], "") + "…"
}
