// Package status holds the plain types of the service's status: the response of GET /status, which the page, offloadctl and the lab read. The OpenAPI
// file is generated from them, and a test compares the two. Times are in seconds, sizes in bytes.
//
// The service fills a new Status for each request; a value is not shared and needs no lock.
package status

import (
	"app-offload/functions/answer/desk"
	"app-offload/functions/export"
	"app-offload/functions/forward"
	"app-offload/functions/host"
	"app-offload/functions/infer"
	"app-offload/functions/local"
	"app-offload/functions/shed"
)

// Status is the state of the service in the API. Times are in seconds, sizes in bytes.
type Status struct {
	APIVersion string      `json:"apiVersion"`
	Version    string      `json:"version"` // of the program
	Commit     string      `json:"commit"`  // of its source
	NodeName   string      `json:"nodeName"`
	Ready      bool        `json:"ready"`
	NotReady   []string    `json:"notReady,omitempty"` // the critical reasons of Health
	Health     Health      `json:"health"`
	Counts     Counts      `json:"counts"`
	Drops      DropStatus  `json:"drops"`
	Policy     string      `json:"policy"`
	Events     EventCounts `json:"events"`
	Spool      SpoolStatus `json:"spool"`

	Undecided UndecidedStatus `json:"undecided"`
	Overload  shed.Overload   `json:"overload"`

	Link    host.Link    `json:"link"`
	Node    host.State   `json:"node"`
	Export  export.Stats `json:"export"`
	Local   local.Counts `json:"local"`
	Models  *infer.Stats `json:"models,omitempty"` // absent without a class that names a model and without a folder of models
	Answers desk.Counts  `json:"answers"`          // of the cloud
	Process Process      `json:"process"`

	Results forward.Counts `json:"results"` // of local work whose class sends them

	Policies PolicyStatus `json:"policies"`

	Configuration ConfigurationStatus `json:"configuration"`
}

// EventCounts counts received events, and the outcome of those that were not accepted.
type EventCounts struct {
	Received    uint64            `json:"received"`    // events passed to the pipeline: includes those skipped below, excludes quarantined and repeated ones
	Unsafe      uint64            `json:"unsafe"`      // messages at QoS 0, which no acknowledgement protects
	Refused     map[string]uint64 `json:"refused"`     // by the gate: too many events, too many bytes, or the stop
	Returned    int64             `json:"returned"`    // tasks returned to the bus because neither spool nor local workers could take them
	Unheard     int64             `json:"unheard"`     // messages for which the stop left no time
	Quarantined map[string]uint64 `json:"quarantined"` // messages that are not valid events, by reason

	// Skipped counts skipped messages, by reason. Results of app-offload services: own, result, hops, echo, loop. On an MQTT bus also retained (the
	// broker's copy of an earlier event) and unmatched (on a topic that is no longer configured).
	Skipped  map[string]uint64 `json:"skipped"`
	Repeated uint64            `json:"repeated"` // events submitted before, with the same id and content; MQTT only
	SameID   uint64            `json:"sameId"`   // events with the id of an earlier one and different content, processed all the same; MQTT only
}

// SpoolStatus is the spool in one line: "spool n of m bytes, oldest 3 h".
type SpoolStatus struct {
	Epoch     string  `json:"epoch"`
	Tasks     int64   `json:"tasks"`
	Bytes     int64   `json:"bytes"`
	Limit     int64   `json:"limit"`     // of Bytes; the rest of the quota is for rewriting files
	Fill      float64 `json:"fill"`      // the share of Limit in use, 1 while tasks are refused or dropped for lack of room
	Quota     int64   `json:"quota"`     // of all files
	OldestAge float64 `json:"oldestAge"` // s
	Line      string  `json:"line"`
	Damaged   int64   `json:"damaged"`
	Problem   string  `json:"problem,omitempty"`

	Dropped map[string]map[string]uint64 `json:"dropped"` // by class and reason
}

// Process is the resource usage of this process.
type Process struct {
	RSS        int64   `json:"rss"` // bytes
	Goroutines int     `json:"goroutines"`
	Uptime     float64 `json:"uptime"` // s
}

// ConfigurationStatus identifies the current configuration.
type ConfigurationStatus struct {
	Version  string `json:"version"`           // changes with every key that may change while the service runs
	Policies string `json:"policies"`          // changes with the keys of the policies only; decisions and canary name it
	Problem  string `json:"problem,omitempty"` // why the last change was rejected
}

// Counts is the conservation account of the node, in tasks. At every moment
//
//	Accepted = Local + Receipted + Spooled + the sum of Dropped
//
// InFlight is in memory and not yet accepted. Balance is the difference between the spooled tasks by the account and those in the spool: anything but
// 0 is a defect.
type Counts struct {
	Accepted  int64            `json:"accepted"`
	Local     int64            `json:"local"`
	Receipted int64            `json:"receipted"`
	Spooled   int64            `json:"spooled"`
	InFlight  int64            `json:"inFlight"`
	Dropped   map[string]int64 `json:"dropped"`
	Balance   int64            `json:"balance"`
}

// UndecidedStatus is the number of parked tasks.
type UndecidedStatus struct {
	Tasks int64 `json:"tasks"`
	Bytes int64 `json:"bytes"` // of their data
}

// Sum returns the sum of counts.
func Sum[N int64 | uint64](counts map[string]N) (n N) {
	for _, c := range counts {
		n += c
	}
	return n
}
