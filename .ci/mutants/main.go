// mutants asks whether the tests notice a line that is wrong. It draws one-line mutations of the product's code, runs the tests
// of the package against each, and prints which of them no test kills.
//
//	go run ./.ci/mutants -seed 7 -n 100            one hundred mutations that compile, of all packages
//	go run ./.ci/mutants -seed 7 -n 20 ./functions/spool ./functions/batch
//	go run ./.ci/mutants -list ./functions/batch   every mutation that could be drawn
//
// The tree is never written to: go test reads the mutated file through -overlay. Equal seeds draw equal mutations of equal code. A
// mutation that does not compile is not counted, and another one is drawn. A package without tests is tried by those of the nearest
// folder above it that has some. Lines that only log are not mutated. A mutation that changes nothing that a test could see is named
// in the file equivalent, with the reason; it is printed and counted apart.
package main

import (
	"bufio"
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
	n       int
	least   float64
	timeout time.Duration
	list    bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var o options
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of the draw")
	flag.IntVar(&o.n, "n", 100, "how many mutations that compile")
	flag.Float64Var(&o.least, "least", 95, "fail below so many percent killed")
	flag.DurationVar(&o.timeout, "timeout", 3*time.Minute, "how long the tests of a package may take, without the build; longer means killed")
	flag.BoolVar(&o.list, "list", false, "only list what could be drawn")
	flag.Parse()
	if err := run(ctx, o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, patterns []string) error {
	if o.n < 1 || o.timeout <= 0 {
		return errors.New("-n and -timeout must be above 0")
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
	known, err := readEquivalent(".ci/mutants/equivalent")
	if err != nil {
		return err
	}
	return judge(ctx, o, all, known)
}

// draw shuffles the mutations: first one of each line, then the rest, so that long lines count no more than short ones.
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

// judge tries mutations until enough of them compiled.
func judge(ctx context.Context, o options, all []mutation, known map[string]string) error {
	t, err := newTrial(o.timeout)
	if err != nil {
		return err
	}
	defer t.close()
	count, lived := map[outcome]int{}, []string{}
	for _, m := range all {
		if count[killed]+count[alive] >= o.n {
			break
		}
		result, took, err := t.try(ctx, m)
		if err != nil {
			return err
		}
		reason, named := known[m.key()]
		if result == alive && named {
			result = equivalent
		}
		count[result]++
		fmt.Printf("%-12s %5.1fs  %s\n", result, took.Seconds(), m)
		switch {
		case result == alive:
			lived = append(lived, m.String())
		case result == equivalent:
			fmt.Printf("%21s%s\n", "", reason)
		case result == killed && named:
			return fmt.Errorf("this is named as equivalent and was killed: %s", m)
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

// readEquivalent reads lines of FILE | CODE | MUTATION | REASON. The line of code stands for its number, which moves.
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

// key names a mutation by the text of its line.
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
