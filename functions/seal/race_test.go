//go:build race

package seal

// raceEnabled lets slow tests do with less under the race detector.
const raceEnabled = true
