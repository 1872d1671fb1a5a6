package functions

import (
	"errors"
	"fmt"

	"app-offload/functions/decision"
	"app-offload/functions/local"
	"app-offload/functions/spool"
)

// The fate of a task after the decision. A job is in one state. The spool and the local workers report what happened to it as an event. The table
// gives the next state and the actions of the transition. Work that may block, such as a second attempt, runs on a background queue, so that neither
// the committer nor a worker waits, and no callback re-enters its caller.

// jobState is the state of a job.
type jobState uint8

const (
	impossible jobState = iota // marks cells of the table that no event can reach
	decided                    // not handed over yet; it may be queued behind another task of its track
	parked                     // durable and undecided; the parker owns it
	sending                    // offered to the spool, as decided
	working                    // queued for the local workers, as decided
	instead                    // queued for the local workers, since the spool rejected it
	resending                  // offered to the spool, since local work failed
	asking                     // offered to the spool for the cloud's answer; the local answer is published as provisional
	stored                     // durable in the spool
	finished                   // done locally
	dropped                    // accepted, and dropped with a reason
	refused                    // returned to the sender
	numStates
)

// jobEvent is what happened to a job, combined with what its class allows, so that the table needs no conditions.
type jobEvent uint8

const (
	behind           jobEvent = iota // an earlier task of its track was refused
	overload                         // both paths are overloaded, and its class allows a drop
	kept                             // it is durable
	tooLarge                         // larger than the spool can ever take, and some reading has no operator
	tooLargeReadable                 // larger than the spool can ever take, but the operators read all of it
	fullLocal                        // the spool is full or failing; the class allows local work, and the operators read all of it
	fullDrop                         // the spool is full, and the class drops rather than refuses
	unstored                         // the spool is full or failing, and the task can only be refused
	done                             // local work is done
	failed                           // local work failed
	failedStays                      // local work failed, and the class must not leave
	hard                             // the local model has answered provisionally, and the cloud is asked too
	shut                             // the local workers accept no more tasks
	numEvents
)

// action is one step of a transition.
type action uint8

const (
	conclude     action = iota // the task is accepted; its event may be acknowledged
	finish                     // count it as done locally, settle its decision, conclude
	goLocal                    // amend the decision: the spool did not take it
	goCloud                    // amend the decision: local work failed
	goHard                     // amend the decision: the local answer is hard
	finishFirst                // publish the local model's answer as final, and finish
	resend                     // offer it to the spool later, then leave the track
	dropTooLarge               // drop it, since it is too large for the spool
	dropFull                   // drop it, since the spool is full
	dropOverload               // drop it, for the reason in its decision
	dropFailed                 // drop it, since local work failed
	refuse                     // return it to its sender
	refuseTrack                // return it, and all tasks queued behind it on its track
	leaveTrack                 // release the tasks queued behind it on its track
)

// transition is one cell of the table.
type transition struct {
	next jobState
	do   []action
}

// transitions is the table. An absent cell is impossible; the table's test says why.
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

// spoolEvent returns the event for a task that the spool rejected. A failing spool is treated like a full one: the task is done locally where
// possible.
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

// localEvent returns the event for the result of local work.
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

// whyFailed returns the reason for sending a task that was decided local.
func whyFailed(err error) decision.Reason {
	if errors.Is(err, local.ErrBusy) {
		return decision.ModelBusy
	}
	return decision.LocalFailed
}

// ErrRefused reports a task that the spool rejected and whose class neither drops it nor has it done locally. Its event is not acknowledged.
var ErrRefused = errors.New("refused: the spool rejected the task, which can be neither dropped nor done locally")

var errBehind = fmt.Errorf("%w: an earlier task of its device and class was refused", ErrRefused)

// ReasonFailed counts tasks whose local work failed and that could not be sent either.
const ReasonFailed = "localFailed"

// ReasonUnread counts tasks that must not leave and hold a value that does not parse as its type.
const ReasonUnread = "unread"

// reasonOf returns the drop reason for a task whose local work failed.
func reasonOf(err error) string {
	if unread := (*local.UnreadError)(nil); errors.As(err, &unread) {
		return ReasonUnread
	}
	return ReasonFailed
}

// ReasonTooLarge counts tasks that are too large for the spool and could not be done locally.
const ReasonTooLarge = "tooLarge"
