package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	page "app-offload/cmd/offload-lab/internal/report"
)

// reportVerb draws the page.
func reportVerb(_ context.Context, args []string) error {
	fs := flags("report")
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
