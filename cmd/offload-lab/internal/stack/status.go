package stack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// Status is the part of the service's status that the lab reads.
type Status struct {
	Policy string `json:"policy"`
	Counts Counts `json:"counts"`
	Events struct {
		Received int64            `json:"received"`
		Refused  map[string]int64 `json:"refused"`
	} `json:"events"`
	Spool struct {
		Bytes int64 `json:"bytes"`
	} `json:"spool"`
	Link struct {
		Up      bool    `json:"up"`
		Goodput float64 `json:"goodput"`
		RTT     float64 `json:"rtt"`
	} `json:"link"`
	Export struct {
		Inflight      int `json:"inflight"`      // batches
		InflightBytes int `json:"inflightBytes"` // of records

		Receipted float64 `json:"receipted"` // records
		Bytes     float64 `json:"bytes"`     // of the messages that the broker acknowledged
	} `json:"export"`
	Node struct {
		CPU float64 `json:"cpu"`
	} `json:"node"`
	Process struct {
		RSS        int64 `json:"rss"`
		Goroutines int   `json:"goroutines"`
	} `json:"process"`
}

// Counts is the conservation account as the service publishes it.
type Counts struct {
	Accepted  int64            `json:"accepted"`
	Local     int64            `json:"local"`
	Receipted int64            `json:"receipted"`
	Spooled   int64            `json:"spooled"`
	InFlight  int64            `json:"inFlight"`
	Dropped   map[string]int64 `json:"dropped"`
	Balance   int64            `json:"balance"`
}

// FinalCounts reads the account that the service left behind when it stopped.
func (s *Stack) FinalCounts() (Counts, error) {
	path := filepath.Join(s.Spool(), "ledger.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		return Counts{}, fmt.Errorf("reading the account that app-offload left: %w", err)
	}
	var left struct {
		Counts Counts `json:"counts"`
	}
	if err := json.Unmarshal(raw, &left); err != nil {
		return Counts{}, fmt.Errorf("%s: %w", path, err)
	}
	return left.Counts, nil
}

// Stored asks the consumer's own tool how many records its database has, each once however often it came.
func (s *Stack) Stored() (int64, error) {
	// #nosec G204 -- our own binary
	out, err := exec.Command(filepath.Join(s.cfg.Bin, "offload-cloud"), "stats", "-store", "sqlite:"+s.Database(), "-json").Output()
	if err != nil {
		return 0, fmt.Errorf("asking offload-cloud what it has stored: %w", err)
	}
	var sum int64
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var node struct {
			Records int64 `json:"records"`
		}
		err := dec.Decode(&node)
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return 0, fmt.Errorf("reading what offload-cloud has stored: %w", err)
		}
		sum += node.Records
	}
}
