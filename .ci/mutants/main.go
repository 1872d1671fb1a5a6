// mutants checks whether the tests notice a wrong line. It draws one-line mutations of the product's code, runs the tests of the package against
// each, then those of importing packages, and prints the mutations that no test kills. It only runs tests that execute the line: the coverage of each
// test is measured once and stored in the user's cache folder until the folder's tests change.
//
//	go run ./.ci/mutants -seed 7 -n 100            one hundred mutations that compile, of all packages
//	go run ./.ci/mutants -seed 7 -n 20 ./functions/spool ./functions/batch
//	go run ./.ci/mutants -list ./functions/batch   every mutation that could be drawn
//
// The tree is never modified: go test reads the mutated files through -overlay. The tests of a folder are built once for all mutations of the sample,
// each in a copy of its function, and the environment variable MUTANT selects one. A mutation outside functions, in an init, or beside a call of
// recover is built separately. Equal seeds draw equal mutations of equal code. A mutation that does not compile does not count, and another one is
// drawn. The file of -results stores each result immediately, and a run that finds a result there does not repeat the mutation. A package without
// tests is tried by those of the nearest folder above it with tests. A failed test counts if it passes without the mutation and fails with it again,
// so that a busy machine kills nothing; a test that takes ten seconds and three times its usual duration counts as failed. Lines that only log are
// not mutated. A mutation without an observable effect is listed in the file equivalent, with the reason; it is printed and counted separately.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type options struct {
	seed    uint64
	n, jobs int
	least   float64
	budget  time.Duration
	list    bool
	again   bool
	nearest int
	light   string
	share   float64
	results string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var o options
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of the draw")
	flag.IntVar(&o.n, "n", 100, "number of mutations that compile")
	flag.IntVar(&o.jobs, "jobs", 1, "number of mutations tried in parallel")
	flag.Float64Var(&o.least, "least", 95, "minimum percentage of killed mutations")
	flag.DurationVar(&o.budget, "budget", 30*time.Second, "total time limit of the importing packages' tests per mutation")
	flag.IntVar(&o.nearest, "importers", 8, "number of importing packages whose tests are run, nearest first")
	flag.BoolVar(&o.again, "again", false, "retry the survivors in the file of -results")
	flag.BoolVar(&o.list, "list", false, "only list the possible mutations")
	flag.StringVar(&o.light, "light", "functions/engine,cmd/offload-lab", "folders with a limited share of the sample")
	flag.Float64Var(&o.share, "share", 25, "maximum percentage of those folders in the sample")
	flag.StringVar(&o.results, "results", "", "file that stores each result immediately")
	flag.Parse()
	if err := run(ctx, o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, patterns []string) error {
	if o.n < 1 || o.jobs < 1 {
		return errors.New("-n and -jobs must be above 0")
	}
	packages, err := load(ctx, patterns)
	if err != nil {
		return err
	}
	var all []mutation
	for _, p := range packages {
		found, err := p.mutations()
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	if o.list {
		for _, m := range all {
			fmt.Println(m)
		}
		return nil
	}
	fmt.Printf("seed %d: %d mutations of %d packages to draw from\n", o.seed, len(all), len(packages))
	all = draw(all, o.seed)
	if len(patterns) == 0 {
		all = lighten(all, strings.Split(o.light, ","), o.share)
	}
	return judge(ctx, o, all)
}

// lighten drops mutations of the folders that would exceed their share of the draw so far.
func lighten(all []mutation, folders []string, share float64) (kept []mutation) {
	n := 0
	for _, m := range all {
		if slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(m.name(), f+"/") }) {
			if 100*float64(n+1) > share*float64(len(kept)+1) {
				continue
			}
			n++
		}
		kept = append(kept, m)
	}
	return kept
}

// draw shuffles the mutations: first one of each line, then the others, so that long lines count no more than short ones.
func draw(all []mutation, seed uint64) []mutation {
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	type place struct {
		file string
		line int
	}
	seen := map[place]int{}
	turn, order := make([]int, len(all)), make([]int, len(all)) // by place in the shuffled list
	for i, m := range all {
		at := place{m.file, m.line}
		turn[i], order[i] = seen[at], i
		seen[at]++
	}
	slices.SortStableFunc(order, func(a, b int) int { return turn[a] - turn[b] })
	drawn := make([]mutation, len(all))
	for i, k := range order {
		drawn[i] = all[k]
	}
	return drawn
}

// key identifies a mutation by the text of its line.
func (m mutation) key() string {
	return strings.Join([]string{m.name(), m.code, m.change()}, " | ")
}

func (m mutation) String() string {
	return fmt.Sprintf("%s:%d  %s  in  %s", m.name(), m.line, m.change(), m.code)
}

func (m mutation) change() string { return oneLine(m.before) + "  =>  " + oneLine(m.after) }

// name is the file below the module's folder.
func (m mutation) name() string {
	name, err := filepath.Rel(m.of.root, m.file)
	if err != nil {
		return m.file
	}
	return name
}

func oneLine(text string) string {
	if text == "" {
		return "(nothing)"
	}
	words := strings.Fields(text)
	return strings.Join(slices.Clip(words), " ")
}
