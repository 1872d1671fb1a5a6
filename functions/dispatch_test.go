package functions

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"app-offload/functions/decide"

	"github.com/stretchr/testify/require"
)

var stateNames = [numStates]string{
	"impossible", "decided", "parked", "sending", "working", "instead", "resending", "asking", "stored", "finished", "dropped", "refused",
}

var eventNames = [numEvents]string{
	"behind", "overload", "kept", "tooLarge", "tooLargeReadable", "fullLocal", "fullDrop", "unstored", "done", "failed", "failedStays", "hard", "shut",
}

var actionNames = []string{
	"conclude", "finish", "goLocal", "goCloud", "goHard", "finishFirst", "resend", "dropTooLarge", "dropFull", "dropOverload", "dropFailed", "refuse", "refuseTrack", "leaveTrack",
}

// The unreachable cells, and why. No other cell may be missing from the table.
var unreachable = map[string]string{
	"decided.kept decided.tooLarge decided.tooLargeReadable decided.fullLocal decided.fullDrop decided.unstored": "it was not offered to the spool",
	"decided.done decided.failed decided.failedStays decided.hard decided.shut":                                  "it was not handed to the local workers",
	"sending.overload working.overload instead.overload resending.overload asking.overload":                      "it was judged before it was handed over",
	"sending.done sending.failed sending.failedStays sending.hard sending.shut":                                  "the local workers do not have it",
	"working.kept working.tooLarge working.tooLargeReadable working.fullLocal working.fullDrop working.unstored": "the spool does not have it",
	"instead.kept instead.tooLarge instead.tooLargeReadable instead.fullLocal instead.fullDrop instead.unstored": "the spool did not take it",
	"instead.hard":                   "the spool has refused it already, so its answer is final",
	"resending.behind asking.behind": "it is offered by itself: only the tasks of one run can be behind another one",
	"resending.done resending.failed resending.failedStays resending.hard resending.shut": "the local workers are done with it",
	"asking.done asking.failed asking.failedStays asking.hard asking.shut":                "likewise",
}

// Every cell of the table, in readable form.
var cells = map[string]string{
	"decided.behind":             "refused: refuse",
	"decided.overload":           "dropped: dropOverload",
	"sending.behind":             "refused: refuse",
	"sending.kept":               "stored: conclude",
	"sending.tooLarge":           "dropped: dropTooLarge",
	"sending.tooLargeReadable":   "instead: goLocal",
	"sending.fullLocal":          "instead: goLocal",
	"sending.fullDrop":           "dropped: dropFull",
	"sending.unstored":           "refused: refuseTrack", // those behind it on its track would pass it
	"working.behind":             "refused: refuse leaveTrack",
	"working.done":               "finished: finish leaveTrack",
	"working.failed":             "resending: goCloud resend", // which leaves the track once it is stored
	"working.failedStays":        "dropped: dropFailed leaveTrack",
	"working.hard":               "asking: goHard resend",
	"working.shut":               "refused: refuseTrack leaveTrack",
	"instead.behind":             "refused: refuse leaveTrack",
	"instead.done":               "finished: finish leaveTrack",
	"instead.failed":             "dropped: dropFailed leaveTrack", // the spool has refused it already
	"instead.failedStays":        "dropped: dropFailed leaveTrack",
	"instead.shut":               "refused: refuseTrack leaveTrack",
	"resending.kept":             "stored: conclude",
	"resending.tooLarge":         "dropped: dropTooLarge",
	"resending.tooLargeReadable": "dropped: dropTooLarge", // the operators have failed on it already
	"resending.fullLocal":        "refused: refuseTrack",  // likewise
	"resending.fullDrop":         "dropped: dropFull",
	"resending.unstored":         "refused: refuseTrack",
	"asking.kept":                "stored: conclude",
	"asking.tooLarge":            "finished: finishFirst", // whatever keeps the cloud from answering, there is an answer
	"asking.tooLargeReadable":    "finished: finishFirst",
	"asking.fullLocal":           "finished: finishFirst",
	"asking.fullDrop":            "finished: finishFirst",
	"asking.unstored":            "finished: finishFirst",
}

// TestDispatchTable compares each cell with its expected content, and names each unreachable cell.
func TestDispatchTable(t *testing.T) {
	why := map[string]string{}
	for names, reason := range unreachable {
		for _, name := range strings.Fields(names) {
			why[name] = reason
		}
	}
	for s := range numStates {
		for e := range numEvents {
			name, cell := stateNames[s]+"."+eventNames[e], transitions[s][e]
			switch {
			case s == impossible || s == parked || s >= stored: // the parker's, or the end: no event is dispatched
				require.Equal(t, impossible, cell.next, name)
			case cell.next == impossible:
				require.NotEmpty(t, why[name], "%s is not in the table and nothing says why", name)
				require.NotContains(t, cells, name)
			default:
				var do []string
				for _, a := range cell.do {
					do = append(do, actionNames[a])
				}
				require.Equal(t, cells[name], stateNames[cell.next]+": "+strings.Join(do, " "), name)
				require.NotContains(t, why, name)
			}
		}
	}
}

// An impossible event stops the process immediately: undurable tasks are then redelivered, whereas continuing might count them twice.
func TestAnImpossibleEventPanics(t *testing.T) {
	s := open(t, testConfig(t, nil, "cloud"), &bin{})
	for _, st := range []jobState{decided, parked, stored, finished, dropped, refused} {
		require.Panics(t, func() { s.dispatch(&job{Case: decide.Case{Task: taskOf(t, s, event("d", 1))}, state: st}, done, nil) }, stateNames[st])
	}
}

// TestEveryPathConcludesOnce walks all paths of the table. Each ends, concludes its task exactly once, leaves its track exactly as often as it was on
// it, and asks neither spool nor local workers twice.
func TestEveryPathConcludesOnce(t *testing.T) {
	concluding := []action{conclude, finish, finishFirst, dropTooLarge, dropFull, dropOverload, dropFailed, refuse, refuseTrack}
	paths := 0
	var walk func(at jobState, path []string, concluded, onTrack int)
	walk = func(at jobState, path []string, concluded, onTrack int) {
		require.LessOrEqual(t, len(path), 3, "%v does not end", path)
		if at >= stored {
			paths++
			require.Equal(t, 1, concluded, "conclusions of %v", path)
			require.Zero(t, onTrack, "left on its track by %v", path)
			return
		}
		for e, cell := range transitions[at] {
			if cell.next == impossible {
				continue
			}
			c, on := concluded, onTrack
			if cell.next == instead {
				on++
			}
			for _, a := range cell.do {
				if slices.Contains(concluding, a) {
					c++
				}
				if a == leaveTrack || a == resend { // which leaves it in the end
					on--
				}
			}
			walk(cell.next, append(path, fmt.Sprintf("%s.%s", stateNames[at], eventNames[e])), c, on)
		}
	}
	for start, onTrack := range map[jobState]int{decided: 0, sending: 0, working: 1} {
		walk(start, nil, 0, onTrack)
	}
	require.Greater(t, paths, 20)
}
