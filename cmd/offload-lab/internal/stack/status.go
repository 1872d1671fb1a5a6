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

	"app-offload/functions/status"
)

// The service's status, and the account in it.
type (
	Status = status.Status
	Counts = status.Counts
)

// FinalCounts reads the account that the service wrote when it stopped.
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

// Stored is the number of records in the consumer's database according to its own tool, without repeats.
func (s *Stack) Stored() (int64, error) {
	// #nosec G204 -- our own binary
	out, err := exec.Command(filepath.Join(s.cfg.Bin, "offload-cloud"), "stats", "-store", "sqlite:"+s.Database(), "-json").Output()
	if err != nil {
		return 0, fmt.Errorf("requesting the count of stored records: %w", err)
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
