package decision

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"app-offload/functions/score"
)

// Explain returns a sentence with the target of a task, the reason, and the predicted time of either target; if the outcome is known, also the actual
// time.
func Explain(e Entry) string {
	where := "Local"
	switch {
	case e.Decision.Reason == Undecided:
		where = "Parked"
	case e.Decision.Reason.IsDrop():
		where = "Dropped"
	case e.Decision.Target == Cloud:
		where = "Cloud"
	}
	return where + ": " + because(&e) + afterwards(&e) + "."
}

// because returns the reason with the numbers behind it.
func because(e *Entry) string {
	d := &e.Decision
	switch d.Reason {
	case GuardLinkDown, GuardBacklog, GuardNeverLeave, GuardMemory, GuardBattery, GuardPrice, GuardOutside, SpoolFull:
		return mustStay(e)
	case AboveThreshold, BelowThreshold:
		return scores(e) + ", " + against(d) + " the threshold " + decimals(d.Threshold) + "; " + ways(e)
	case LocalMeets, LocalMisses, BothMissLocal:
		return inTime(e)
	case CheaperLocal, CheaperCloud:
		return "policy " + e.Policy + " predicts" + learned(e) + " a lower cost; " + ways(e) + scarce(e)
	case Undecided:
		return "its target was busy, so it waits in the spool until node or link is free; " + ways(e)
	case BoundLocal, BoundCloud, LongestWait, LetGo:
		return boundLate(e)
	case Dominated:
		return "policy " + e.Policy + " prefers the other target, which is slower and saves neither energy nor money; " + ways(e)
	case Sooner:
		return "policy " + e.Policy + " prefers the other target, where the result would be far too late; " + ways(e)
	case NoOperator:
		return "no operator of class " + strconv.Quote(e.Class) + " reads such data, and keeping it local would lose it; " + ways(e)
	case LocalFailed:
		return "local processing failed; " + ways(e)
	case HardExample:
		return "the local model answered with a confidence of " + percent(d.Confidence) + ", which class " + strconv.Quote(e.Class) +
			" counts as hard: its answer is provisional, and the cloud is asked; " + ways(e)
	case JudgedHard:
		return "the latest local answers about this device were hard, so the cloud is asked without a local run; " + ways(e)
	case Overload, TooLate, Rerouted, Reduced:
		return shed(e)
	case ModelBusy:
		return "the queue of the local models is full; " + ways(e)
	case Fixed:
		return "policy " + e.Policy + " always decides this; " + ways(e)
	case Drawn:
		return "policy " + e.Policy + " drew this target, with a chance of " + percent(d.Propensity) + "; " + ways(e)
	case Explored:
		return "policy " + e.Policy + " explored this target, with a chance of " + chance(d.Propensity) + "; " + ways(e)
	}
	return ways(e)
}

// shed explains a decision changed by overload. The predictions exclude parked tasks, which overload includes.
func shed(e *Entry) string {
	if e.State.ParkedBytes >= 1 {
		return overload(e) + ", besides waiting for parked tasks, of which there are " + amount(int(min(e.State.ParkedBytes, math.MaxInt32)))
	}
	return overload(e)
}

func overload(e *Entry) string {
	switch e.Decision.Reason {
	case Overload:
		return "both paths are overloaded, and class " + strconv.Quote(e.Class) + " gives way; " + ways(e)
	case Rerouted:
		return "policy " + e.Policy + " prefers the other target, which is overloaded; " + ways(e)
	case Reduced:
		return "both paths are overloaded, so it is processed in the reduced form, class " + strconv.Quote(e.Class) + "; " + ways(e)
	}
	return "neither path can finish it while its result is of use to class " + strconv.Quote(e.Class) + "; " + ways(e)
}

// corrects is the name of the policy that corrects the estimates by its experience.
const corrects = "bandit"

// learned says that the policy used times other than those shown, corrected by earlier outcomes.
func learned(e *Entry) string {
	if e.Policy == corrects {
		return ", corrected by earlier outcomes,"
	}
	return ""
}

// boundLate explains a decision on a parked task.
func boundLate(e *Entry) string {
	text := "parked for " + seconds(e.Waited.Seconds())
	switch e.Decision.Reason {
	case BoundLocal:
		text += ", until the node was free and it gained most of all parked tasks; "
	case BoundCloud:
		text += ", until the link was free and it gained most of all parked tasks; "
	case LetGo:
		text += ", then the service stopped; "
	default:
		text += ", the longest that a task may wait; "
	}
	return text + ways(e)
}

// mustStay explains a decision that no policy made.
func mustStay(e *Entry) string {
	switch e.Decision.Reason {
	case GuardLinkDown:
		if e.Decision.Target == Cloud {
			return "the link to the cloud is down, and its local result would be far too late; it waits in the spool for the link; " + ways(e)
		}
		return "the link to the cloud is down; " + localOnly(e)
	case GuardBacklog:
		return fmt.Sprintf("the spool is %s full (tasks waiting for the link: %d), above the limit of %s; %s",
			percent(e.State.Link.BacklogShare), e.State.Link.BacklogTasks, percent(e.Decision.Threshold), localOnly(e))
	case GuardNeverLeave:
		return "data of class " + strconv.Quote(e.Class) + " must never leave this node; " + localOnly(e)
	case GuardMemory:
		return fmt.Sprintf("tasks of the node wait for memory for %s of the time, above the limit of %s; %s", percent(e.State.MemoryStall/100), percent(e.Decision.Threshold/100), ways(e))
	case GuardBattery:
		return fmt.Sprintf("the battery is at %s, below the limit of %s, and this takes less energy: local %s J, cloud %s J; %s", percent(e.State.Battery/100),
			percent(e.Decision.Threshold/100), significant(e.Estimate.LocalEnergy, 2), significant(e.Estimate.CloudEnergy, 2), ways(e))
	case GuardPrice:
		return fmt.Sprintf("a MB costs %s at this hour, above the limit of %s; %s", significant(e.State.Link.Price, 3), significant(e.Decision.Threshold, 3), localOnly(e))
	case GuardOutside:
		return "policy " + e.Policy + " was not trained for such a task or node, so the lower predicted cost decides; " + ways(e)
	default:
		return "policy " + e.Policy + " chose the cloud, but the spool was full; " + localOnly(e)
	}
}

// scores shows the inputs and the terms of a score.
func scores(e *Entry) string {
	text := fmt.Sprintf("%s at complexity %s with the CPU %s busy scores %s", amount(e.Size), short(e.Complexity),
		percent(e.State.CPU/100), decimals(e.Decision.Score))
	if t := e.Decision.Terms; t != (Terms{}) {
		text += fmt.Sprintf(" (size %s, complexity %s, CPU %s)", decimals(t.Size), decimals(t.Complexity), decimals(t.CPU))
	}
	return text
}

// against compares the score with its threshold.
func against(d *Decision) string {
	switch {
	case d.Score > d.Threshold:
		return "above"
	case d.Score < d.Threshold:
		return "below"
	}
	return "exactly at"
}

// inTime compares both predictions with the time left.
func inTime(e *Entry) string {
	if e.Deadline <= 0 {
		return "it has no deadline; " + ways(e)
	}
	left := (e.Deadline - e.Waited).Seconds()
	local, cloud := e.Estimate.LocalTime, e.Estimate.CloudTime
	if e.Decision.Reason == LocalMeets {
		return fmt.Sprintf("predicted %s, within the %s left before its deadline", seconds(local), seconds(left))
	}
	late := fmt.Sprintf("predicted local %s, with only %s left before its deadline", seconds(local), seconds(left))
	if left <= 0 {
		late = fmt.Sprintf("its deadline passed %s ago; predicted local %s", seconds(0-left), seconds(local)) // -left would be -0
	}
	switch {
	case math.IsInf(cloud, 1):
		return late + "; the cloud is out of reach"
	case e.Decision.Reason == BothMissLocal:
		return late + "; cloud even " + seconds(cloud)
	case cloud > left:
		return late + "; cloud " + seconds(cloud) + ", late as well but no later"
	}
	return late + "; cloud " + seconds(cloud)
}

// ways compares both predictions.
func ways(e *Entry) string {
	there := "cloud " + seconds(e.Estimate.CloudTime)
	if math.IsInf(e.Estimate.CloudTime, 1) {
		there = "the cloud is out of reach"
	}
	return "predicted local " + seconds(e.Estimate.LocalTime) + ", " + there
}

// scarce names the other resources that the node is short of.
func scarce(e *Entry) (text string) {
	if e.Estimate.Money > 0 {
		text += fmt.Sprintf("; the cloud costs %s for %s", significant(e.Estimate.Money, 3), amount(int(min(e.Estimate.Bytes, math.MaxInt32))))
	}
	if e.State.OnBattery {
		text += "; on battery"
		if !math.IsNaN(e.State.Battery) {
			text += " at " + percent(e.State.Battery/100)
		}
		text += fmt.Sprintf(", local takes %s J, cloud %s J", significant(e.Estimate.LocalEnergy, 2), significant(e.Estimate.CloudEnergy, 2))
	}
	if e.State.MemoryStall > 0 {
		text += "; tasks of the node wait for memory for " + percent(e.State.MemoryStall/100) + " of the time"
	}
	return text
}

func localOnly(e *Entry) string { return "predicted local " + seconds(e.Estimate.LocalTime) }

// afterwards is empty until the outcome is known.
func afterwards(e *Entry) string {
	o := &e.Outcome
	switch {
	case !o.Known || e.Decision.Reason.IsDrop():
		return ""
	case o.Failed:
		return "; no result"
	case e.Deadline <= 0:
		return "; took " + seconds(o.Time) + sure(e)
	case o.Met:
		return "; took " + seconds(o.Time) + ", in time" + sure(e)
	}
	return "; took " + seconds(o.Time) + ", too late" + sure(e)
}

// sure shows the confidence of a final local answer.
func sure(e *Entry) string {
	if e.Decision.Confidence == 0 || e.Decision.Target == Cloud {
		return ""
	}
	return ", with a confidence of " + percent(e.Decision.Confidence)
}

// seconds writes a time with the unit and the digits that a person would choose.
func seconds(s float64) string {
	switch {
	case math.IsNaN(s) || math.IsInf(s, 0):
		return "forever"
	case s > 0 && s < 0.9995e-3:
		return significant(s*1e6, 3) + " µs"
	case s < 0.01:
		return short(s*1e3) + " ms"
	case s < 0.1:
		return strconv.FormatFloat(s*1e3, 'f', 0, 64) + " ms"
	case s < 1:
		return significant(s, 2) + " s"
	case s < 100:
		return short(s) + " s"
	case s < 2*time.Hour.Seconds():
		return short(s/60) + " min"
	}
	return short(s/3600) + " h"
}

func amount(n int) string {
	switch v := float64(n); {
	case v < score.KB:
		return strconv.Itoa(n) + " bytes"
	case v < score.KB*score.KB:
		return short(v/score.KB) + " KB"
	default:
		return short(v/score.KB/score.KB) + " MB"
	}
}

// percent never rounds a share between 0 and 1 to 0 or 100 %.
func percent(share float64) string {
	switch text := strconv.FormatFloat(share*100, 'f', 0, 64); {
	case share > 0 && text == "0":
		return "less than 1 %"
	case share < 1 && text == "100":
		return "more than 99 %"
	default:
		return text + " %"
	}
}

// chance is a percentage, or odds for a probability below 1 %.
func chance(p float64) string {
	if p < 0.01 {
		return "1 in " + strconv.FormatFloat(1/p, 'f', 0, 64)
	}
	return percent(p)
}

func decimals(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }

// significant writes so many significant digits, without trailing zeros.
func significant(v float64, digits int) string {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', digits, 64), 64) // it was just written
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

// short writes at most one decimal, and none if it is zero.
func short(v float64) string {
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}
