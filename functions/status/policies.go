package status

import (
	"time"

	"app-offload/functions/fleet"
	"app-offload/functions/host"
)

// PolicyStatus is the quality of the decisions: predictions against outcomes, and the policies beside the acting one.
type PolicyStatus struct {
	Acting  map[string]string `json:"acting"` // policy of each class that names one, "" is the default
	Shadows []ShadowStatus    `json:"shadows"`
	Canary  *CanaryStatus     `json:"canary,omitempty"`
	// Decided counts decisions by policy, target ("local", "cloud") and class.
	Decided []DecidedCount `json:"decided"`
	// Prediction is the error of predicted completion times, by class and target.
	Prediction []PredictionStatus `json:"prediction"`
	// Regret is the estimated mean cost of a decision above the better of its two predicted costs, in the unit of the costs.
	Regret float64 `json:"regret"`
	Joules float64 `json:"joules"` // spent on local work and on the radio, estimated

	Forgotten uint64 `json:"forgotten"` // outcomes whose decision was no longer kept
	Unsettled uint64 `json:"unsettled"` // decisions dropped from memory before an outcome arrived
	Unlisted  uint64 `json:"unlisted"`  // decisions and outcomes without a line in Decided and Prediction

	Learned     LearnedStatus        `json:"learned"`
	Credits     *CreditStatus        `json:"credits,omitempty"` // absent if no prices are taken, or none have arrived
	DecisionLog *DecisionLogStatus   `json:"decisionLog,omitempty"`
	Governor    *host.GovernorStatus `json:"governor,omitempty"`
}

// CreditStatus is the node's account with the owner of the fleet, as published by offload-cloud credits.
type CreditStatus struct {
	Balance string    `json:"balance"` // units of the currency
	Head    string    `json:"head"`    // number and digest of the latest settlement, for comparison with the account
	At      time.Time `json:"at"`
	Refused uint64    `json:"refused"` // rejected statements
}

// LearnedStatus is the state of saving what was learned.
type LearnedStatus struct {
	Age     float64 `json:"age"` // s since the last save, 0 before the first
	Problem string  `json:"problem,omitempty"`
	// Outcomes counts the outcomes that each learning policy has learned from.
	Outcomes map[string]TaughtCount `json:"outcomes"`
	// Fleet is the state of learning together with other nodes, absent if this node does not take part.
	Fleet *fleet.Status `json:"fleet,omitempty"`
}

// TaughtCount is the number of outcomes per target that a policy has learned from.
type TaughtCount struct {
	Local int64 `json:"local"`
	Cloud int64 `json:"cloud"`
}

// DecisionLogStatus is the state of the log for offline evaluation.
type DecisionLogStatus struct {
	Folder  string `json:"folder"`
	Written uint64 `json:"written"`
	Dropped uint64 `json:"dropped"` // because the disk was too slow, or failed
}

// DecidedCount is one line of the count of decisions.
type DecidedCount struct {
	Policy string `json:"policy"`
	Target string `json:"target"`
	Class  string `json:"class"`
	Count  uint64 `json:"count"`
}

// ShadowStatus is a policy that decides alongside without effect.
type ShadowStatus struct {
	Policy     string  `json:"policy"`
	Decisions  uint64  `json:"decisions"`
	Agreement  float64 `json:"agreement"`  // share, 0–1, of decisions equal to the acting policy's
	Cost       float64 `json:"cost"`       // mean predicted cost of its decisions
	ActingCost float64 `json:"actingCost"` // mean predicted cost of the acting decisions
}

// CanaryStatus is a policy that acts for a share of the devices, beside the incumbent.
type CanaryStatus struct {
	Policy    string    `json:"policy"`
	Share     float64   `json:"share"` // of the devices, 0–1
	State     string    `json:"state"` // "running" or "rolledBack"
	Reason    string    `json:"reason,omitempty"`
	Canary    ArmStatus `json:"canary"`
	Incumbent ArmStatus `json:"incumbent"`
}

// ArmStatus is one side of the comparison.
type ArmStatus struct {
	Outcomes  uint64  `json:"outcomes"`
	MissShare float64 `json:"missShare"` // 0–1
	Cost      float64 `json:"cost"`      // mean, of actual outcomes
}

// PredictionStatus compares predicted with actual completion times.
type PredictionStatus struct {
	Class     string  `json:"class"`
	Target    string  `json:"target"`
	Count     uint64  `json:"count"`
	Predicted float64 `json:"predicted"` // mean, s
	Actual    float64 `json:"actual"`    // mean, s
	Error     float64 `json:"error"`     // mean absolute error as a share of the actual time
}
