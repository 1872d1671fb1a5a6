//go:build race

package seal

// raceEnabled shortens slow tests under the race detector.
const raceEnabled = true
