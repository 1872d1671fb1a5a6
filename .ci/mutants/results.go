package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// saved stores the results of a run as lines of JSON, written immediately: an interrupted run resumes there.
type saved struct {
	path  string
	mu    sync.Mutex
	known map[string]line
}

type line struct {
	Key     string  // identifies a mutation by its line of code, whose number may change
	Outcome outcome // before equivalent mutations are excused
	By      string  `json:",omitempty"` // the test that failed
	Seconds float64
}

func openResults(path string) (*saved, error) {
	s := &saved{path: path, known: map[string]line{}}
	if path == "" {
		return s, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading earlier results: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var l line
		if json.Unmarshal(lines.Bytes(), &l) == nil { // the last line may be incomplete
			s.known[l.Key] = l
		}
	}
	return s, lines.Err()
}

// of returns the stored result of a mutation; a survivor has none if it is to be retried. Another goroutine adds results.
func (s *saved) of(m *mutation, again bool) (line, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.known[m.key()]
	return l, ok && (!again || l.Outcome != alive)
}

// add stores a result unless it is known.
func (s *saved) add(l line) error {
	s.mu.Lock()
	before, ok := s.known[l.Key]
	s.known[l.Key] = l
	s.mu.Unlock()
	if ok && before.Outcome == l.Outcome {
		return nil
	}
	if s.path == "" {
		return nil
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("saving a result: %w", err)
	}
	_, err = f.Write(append(raw, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("saving a result: %w", err)
	}
	return nil
}

// readEquivalent reads lines of FILE | CODE | MUTATION | REASON. The line of code replaces its number, which may change.
func readEquivalent(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the equivalent mutations: %w", err)
	}
	defer f.Close()
	known := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		fields := strings.Split(text, " | ")
		if len(fields) != 4 {
			return nil, fmt.Errorf("%s: want FILE | CODE | MUTATION | REASON, have %q", path, text)
		}
		known[strings.Join(fields[:3], " | ")] = fields[3]
	}
	return known, lines.Err()
}
