package config

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// Version is a short fingerprint of all that may change while the service runs: equal versions are equal configurations, and decide
// alike.
func (w Writable) Version() string {
	raw, err := json.Marshal(w) // the keys of maps in their order
	if err != nil {
		raw = fmt.Appendf(nil, "%+v", w) // an infinite number, which no configuration that was validated has
	}
	return fmt.Sprintf("%x", sha256.Sum256(raw))[:8]
}
