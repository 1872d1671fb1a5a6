//go:build !linux

package clock

import "time"

// machine reads the clocks of this machine. Without an id of the boot, no duration across a restart is certain.
type machine struct{ start time.Time }

func (m *machine) Wall() time.Time { return time.Now() }

func (m *machine) Running() time.Duration { return time.Since(m.start) }

func (m *machine) Booted() time.Duration { return m.Running() }

func (m *machine) Boot() string { return "" }

func (m *machine) Synchronised() bool { return false }
