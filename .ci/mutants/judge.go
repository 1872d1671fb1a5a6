package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// finding is a mutation with its result.
type finding struct {
	at int // in the order of the draw
	m  *mutation
	result
	err error
}

// judge tries mutations in the order of the draw until enough of them have compiled, and reports.
func judge(ctx context.Context, o options, all []mutation) error {
	known, err := readEquivalent(".ci/mutants/equivalent")
	if err != nil {
		return err
	}
	results, err := openResults(o.results)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return fmt.Errorf("creating a folder for the mutated files: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	check, err := newChecker(ctx, all)
	if err != nil {
		return err
	}
	some, err := sample(all, o, check, results, known)
	if err != nil {
		return err
	}
	schemata, err := newSchemata(filepath.Join(dir, "schemata"), check, some)
	if err != nil {
		return err
	}
	fmt.Printf("%d of %d mutations are built together\n", len(schemata.id), len(some))
	free, err := workers(o, dir, &shared{check: check, schemata: schemata, reach: map[string]*measured{}})
	if err != nil {
		return err
	}
	list, err := tryAll(ctx, o, all, free, results, known)
	return errors.Join(err, report(o, list))
}

// tryAll tries mutations in order, o.jobs at a time, until the wanted number is valid.
func tryAll(ctx context.Context, o options, all []mutation, free chan *worker, results *saved, known map[string]string) (list []finding, failure error) {
	found := make(chan finding)
	valid, running := 0, 0
	for i := 0; ; {
		for ; i < len(all) && running < o.jobs && valid+running < o.n && failure == nil; i++ {
			w, m := <-free, &all[i]
			running++
			go func() {
				f := finding{at: i, m: m}
				if l, ok := results.of(m, o.again); ok {
					f.result = result{outcome: l.Outcome, by: l.By}
				} else {
					f.result, f.err = w.try(ctx, m)
				}
				free <- w
				found <- f
			}()
		}
		if running == 0 {
			return list, failure
		}
		f := <-found
		running--
		if f.err == nil {
			f.err = results.add(line{Key: f.m.key(), Outcome: f.outcome, By: f.by, Seconds: f.took.Seconds()})
		}
		if f.err != nil {
			failure = errors.Join(failure, f.err)
			continue
		}
		f.excuse(known)
		if f.outcome == killed || f.outcome == alive {
			valid++
		}
		fmt.Printf("%-12s %5.1fs  %s  %s\n", f.outcome, f.took.Seconds(), f.m, f.by)
		list = append(list, f)
	}
}

// excuse marks a mutation that is known to be equivalent.
func (f *finding) excuse(known map[string]string) {
	reason, named := known[f.m.key()]
	switch {
	case named && f.outcome == alive:
		f.outcome, f.by = equivalent, reason
	case named && f.outcome == killed:
		f.by += " (although it is listed as equivalent)"
	}
}

// sample selects the mutations to try: the first of the draw that compile, without those with a known result.
func sample(all []mutation, o options, check *checker, results *saved, equivalent map[string]string) (some []*mutation, err error) {
	for i, valid := 0, 0; i < len(all) && valid < o.n; i++ {
		m := &all[i]
		l, known := results.of(m, o.again)
		compiles := known && l.Outcome != broken
		if !known {
			if compiles, err = check.compiles(m); err != nil {
				return nil, err
			}
		}
		if compiles && !known {
			some = append(some, m)
		}
		if _, named := equivalent[m.key()]; compiles && !named {
			valid++
		}
	}
	return some, nil
}

// workers creates one worker per parallel job.
func workers(o options, dir string, all *shared) (chan *worker, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	free := make(chan *worker, o.jobs)
	for i := range o.jobs {
		w := &worker{dir: fmt.Sprintf("%s/%d", dir, i), root: root, module: "app-offload", nearest: o.nearest, budget: o.budget.Seconds(), shared: all}
		if err := os.Mkdir(w.dir, 0o700); err != nil {
			return nil, fmt.Errorf("creating a folder for the mutated files: %w", err)
		}
		free <- w
	}
	return free, nil
}

// report prints the number of killed mutations, and the survivors.
func report(o options, list []finding) error {
	slices.SortFunc(list, func(a, b finding) int { return a.at - b.at })
	count, lived := map[outcome]int{}, []string{}
	for _, f := range list {
		count[f.outcome]++
		if f.outcome == alive {
			lived = append(lived, f.m.String())
		}
	}
	valid := count[killed] + count[alive]
	if valid == 0 {
		return errors.New("no mutation compiled")
	}
	share := 100 * float64(count[killed]) / float64(valid)
	fmt.Printf("\nseed %d: %d of %d killed, %.1f %%; %d equivalent, %d did not compile\n", o.seed, count[killed], valid, share,
		count[equivalent], count[broken])
	if len(lived) > 0 {
		fmt.Println("lived:\n  " + strings.Join(lived, "\n  "))
	}
	if share < o.least {
		return fmt.Errorf("%.1f %% killed is less than %g %%", share, o.least)
	}
	return nil
}
