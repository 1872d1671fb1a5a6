package config

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// Version is a short fingerprint of all settings that may change while the service runs: equal versions are equal configurations, and decide the
// same.
func (w Writable) Version() string {
	raw, err := json.Marshal(w) // map keys are sorted
	if err != nil {
		raw = fmt.Appendf(nil, "%+v", w) // an infinite number, which no valid configuration has
	}
	return fmt.Sprintf("%x", sha256.Sum256(raw))[:8]
}
