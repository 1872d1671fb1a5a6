package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	page "app-offload/cmd/offload-lab/internal/report"
)

const reportExamples = `  offload-lab compare -data DIR -json > board.jsonl
  offload-lab simulate -data DIR -policy ppo,cost,greedy -episodes 20 > steps.jsonl
  offload-lab report -out report.html board.jsonl steps.jsonl       both on one page
  offload-lab replay -json decisions.jsonl | offload-lab report > replay.html

Purpose:
  Draws what the other verbs wrote as one HTML page that stands alone: plots in SVG, light and dark as the reader's system is, and
  nothing to load from anywhere. Equal input gives an equal page.

Input, told apart line by line:
  compare -json   regret with its intervals, the leaderboard, missed deadlines, cloud share, bytes, energy
  simulate        completion times (CDF and tail), the decision map of each policy
  train -curve    the learning curve
  replay -json    estimates of other policies on recorded decisions, with warnings

Files:
  JSON lines of any of these, in any order; - is the standard input, and so is no file at all

Exit codes:
  0 drawn; 1 a line of another kind, nothing to draw, or the page cannot be written; 2 an unknown verb
`

// reportVerb draws the page.
func reportVerb(_ context.Context, args []string) error {
	fs := flags("report", reportExamples)
	out := fs.String("out", "-", "file for the page; - is the standard output")
	title := fs.String("title", "Deciding where to compute", "heading of the page")
	if err := fs.Parse(args); err != nil {
		return err
	}
	files := fs.Args()
	if len(files) == 0 {
		files = []string{"-"}
	}
	var results page.Results
	var sources []string
	for _, name := range files {
		if err := readResults(&results, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		source := filepath.Base(name)
		if name == "-" {
			source = "standard input"
		}
		sources = append(sources, source)
	}
	write := func(w io.Writer) error { return results.Write(w, *title, sources) }
	if *out == "-" {
		return write(os.Stdout)
	}
	return writeFile(*out, write)
}

func readResults(into *page.Results, name string) error {
	if name == "-" {
		return into.Read(os.Stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return into.Read(f)
}
