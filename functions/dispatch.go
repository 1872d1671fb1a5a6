package functions

import (
	"errors"
	"fmt"

	"app-offload/functions/decision"
	"app-offload/functions/local"
	"app-offload/functions/spool"
)

// What becomes of a task after the decision. A job is in one state; spool and local workers report what happened as an event; the
// table says which state comes next and what is done on the way. Whatever may block, such as a second attempt, goes to the goroutine of
// the background, so that neither the committer nor a worker waits, and no call comes back into the one that caused it.

// jobState is where a job is.
type jobState uint8

const (
	impossible jobState = iota // no event leads there: the mark of a cell of the table that cannot be reached
	decided                    // not handed over yet; it may be behind another task of its track
	parked                     // it waits undecided; the parker has it
	sending                    // offered to the spool, as decided
	working                    // with the local workers, as decided
	instead                    // with the local workers, since the spool did not take it
	resending                  // offered to the spool, since local work failed
	asking                     // offered to the spool for a second answer; the local model's is out as provisional
	stored                     // durable in the spool
	finished                   // done locally
	dropped                    // accepted, and dropped with a reason
	refused                    // given back to the sender
	numStates
)

// jobEvent is what happened to a job, with what its class allows then: so the table has no conditions.
type jobEvent uint8

const (
	behind           jobEvent = iota // an earlier task of its track was refused
	overload                         // both paths are overloaded, and its class gives way
	kept                             // it is durable
	tooLarge                         // no spool of this size can take it, and not every reading of it has an operator
	tooLargeReadable                 // no spool of this size can take it, but the operators read all of it
	fullLocal                        // the spool is full or fails; the class has it done locally, and the operators read all of it
	fullDrop                         // the spool is full, and the class drops rather than refuses
	unstored                         // the spool is full or fails, and nothing but refusing is left
	done                             // local work is done
	failed                           // local work failed
	failedStays                      // local work failed, and the class must not leave
	hard                             // the local model has answered, provisionally, and the cloud is to be asked
	shut                             // the local workers take nothing more
	numEvents
)

// action is one thing that a transition does.
type action uint8

const (
	conclude     action = iota // the task is accepted; its event may be acknowledged
	finish                     // count it as done locally, settle its decision, conclude
	goLocal                    // amend the decision: the spool did not take it
	goCloud                    // amend the decision: local work failed
	goHard                     // amend the decision: the local answer is hard
	finishFirst                // publish the local model's answer as final, and finish
	resend                     // offer it to the spool, later, and leave the track then
	dropTooLarge               // drop it, since it is too large for the spool
	dropFull                   // drop it, since the spool is full
	dropOverload               // drop it, for what its decision says
	dropFailed                 // drop it, since local work failed
	refuse                     // give it back to its sender
	refuseTrack                // give it back, and all that are behind it on its track
	leaveTrack                 // let what is behind it on its track go on
)

// transition is one cell of the table.
type transition struct {
	next jobState
	do   []action
}

// transitions is the table. A cell that is not here is impossible: the test of the table says of each why.
var transitions = [numStates][numEvents]transition{
	decided: {
		behind:   {refused, []action{refuse}},
		overload: {dropped, []action{dropOverload}},
	},
	sending: {
		behind:           {refused, []action{refuse}},
		kept:             {stored, []action{conclude}},
		tooLarge:         {dropped, []action{dropTooLarge}},
		tooLargeReadable: {instead, []action{goLocal}},
		fullLocal:        {instead, []action{goLocal}},
		fullDrop:         {dropped, []action{dropFull}},
		unstored:         {refused, []action{refuseTrack}},
	},
	working: {
		behind:      {refused, []action{refuse, leaveTrack}},
		done:        {finished, []action{finish, leaveTrack}},
		failed:      {resending, []action{goCloud, resend}},
		failedStays: {dropped, []action{dropFailed, leaveTrack}},
		hard:        {asking, []action{goHard, resend}},
		shut:        {refused, []action{refuseTrack, leaveTrack}},
	},
	instead: {
		behind:      {refused, []action{refuse, leaveTrack}},
		done:        {finished, []action{finish, leaveTrack}},
		failed:      {dropped, []action{dropFailed, leaveTrack}},
		failedStays: {dropped, []action{dropFailed, leaveTrack}},
		shut:        {refused, []action{refuseTrack, leaveTrack}},
	},
	resending: {
		kept:             {stored, []action{conclude}},
		tooLarge:         {dropped, []action{dropTooLarge}},
		tooLargeReadable: {dropped, []action{dropTooLarge}},
		fullLocal:        {refused, []action{refuseTrack}},
		fullDrop:         {dropped, []action{dropFull}},
		unstored:         {refused, []action{refuseTrack}},
	},
	asking: {
		kept:             {stored, []action{conclude}},
		tooLarge:         {finished, []action{finishFirst}},
		tooLargeReadable: {finished, []action{finishFirst}},
		fullLocal:        {finished, []action{finishFirst}},
		fullDrop:         {finished, []action{finishFirst}},
		unstored:         {finished, []action{finishFirst}},
	},
}

// spoolEvent says what it means for a task that the spool does not take it. A spool that fails is treated like a full one: what can be
// done locally is.
func (p *Pipeline) spoolEvent(j *job, err error) jobEvent {
	class, full, large := j.Task.OwnClass(), errors.Is(err, spool.ErrFull), errors.Is(err, spool.ErrTooLarge)
	switch {
	case large && p.local.ReadsAll(j.Task):
		return tooLargeReadable
	case large:
		return tooLarge
	case class.OnFull == spool.Local && p.local.ReadsAll(j.Task):
		return fullLocal
	case full && (class.OnFull == spool.DropOldest || class.OnFull == spool.DropLowestScore):
		return fullDrop
	}
	return unstored
}

// localEvent says what the result of local work means for a task.
func localEvent(j *job, err error) jobEvent {
	switch {
	case err == nil:
		return done
	case errors.Is(err, local.ErrClosed) || errors.Is(err, local.ErrFull):
		return shut
	case j.first != nil:
		return hard
	case j.Task.OwnClass().NeverLeave:
		return failedStays
	}
	return failed
}

// whyFailed is why a task that was to be done locally is sent instead.
func whyFailed(err error) decision.Reason {
	if errors.Is(err, local.ErrBusy) {
		return decision.ModelBusy
	}
	return decision.LocalFailed
}

// ErrRefused says that a task found no place in the spool and its class refuses rather than drops. Its event is not acknowledged.
var ErrRefused = errors.New("refused: the spool does not take the task, which can neither be dropped nor be done here")

var errBehind = fmt.Errorf("%w: an earlier task of its device and class was", ErrRefused)

// ReasonFailed counts tasks whose local work failed and that had no other way to go.
const ReasonFailed = "localFailed"

// ReasonUnread counts tasks that must not leave and hold a value that is no number of its type.
const ReasonUnread = "unread"

// reasonOf is the word for a task that local work failed on.
func reasonOf(err error) string {
	if unread := (*local.UnreadError)(nil); errors.As(err, &unread) {
		return ReasonUnread
	}
	return ReasonFailed
}

// ReasonTooLarge counts tasks that can be in no spool of this size and that local work failed on.
const ReasonTooLarge = "tooLarge"
