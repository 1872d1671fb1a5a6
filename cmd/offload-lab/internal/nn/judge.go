package nn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"sync"

	"app-offload/functions/models"
	"app-offload/functions/models/hard"
	"app-offload/functions/task"
)

// Trial configures the judging of models: Samples new samples of each of Seeds seeds, starting at From, none of them used in training.
type Trial struct {
	Dir            string // folder of models
	From           uint64
	Seeds, Samples int
	Only           string  // name of the only model, "" means all
	Share          float64 // maximum share of examples sent to the cloud
}

// Filters select the hardest share of the examples, for answers with classes.
var Filters = []string{hard.Random, hard.Threshold, hard.CrossEntropy, hard.Margin, hard.Energy}

// pair is the result of both variants for one sample.
type pair struct {
	edge         models.Answer
	right, cloud bool // correctness of the edge's and the cloud's answer
}

// Figure is the mean over all seeds, with the standard deviation between them, the minimum and the maximum.
type Figure struct{ Mean, Deviation, Low, High float64 }

// figureOf summarizes one value per seed.
func figureOf(list []float64) Figure {
	f := Figure{Low: math.Inf(1), High: math.Inf(-1)}
	for _, v := range list {
		f.Mean += v / float64(len(list))
		f.Low, f.High = min(f.Low, v), max(f.High, v)
	}
	for _, v := range list {
		f.Deviation += (v - f.Mean) * (v - f.Mean) / float64(max(len(list)-1, 1))
	}
	f.Deviation = math.Sqrt(f.Deviation)
	return f
}

func (f Figure) percent() string {
	return fmt.Sprintf("%5.2f %% ± %.2f (%.2f to %.2f)", 100*f.Mean, 100*f.Deviation, 100*f.Low, 100*f.High)
}

// Judge prints the accuracy of all shipped models in a folder: of each variant alone, and of the edge's answers with the hardest examples answered by
// the cloud.
func Judge(ctx context.Context, w io.Writer, t Trial) error {
	if t.Only != "" && !slices.ContainsFunc(Models(), func(m Model) bool { return m.Name == t.Only }) {
		return fmt.Errorf("no model has the name %q", t.Only)
	}
	cfg := models.DefaultConfig()
	cfg.Dir = t.Dir
	look, err := models.LookAt(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = look.Close() }()
	for _, m := range Models() {
		switch {
		case t.Only != "" && t.Only != m.Name:
		case m.Auto:
			err = t.judgeAuto(ctx, w, look, m)
		case m.Variant == models.Edge:
			err = t.judgePair(ctx, w, look, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// judgePair compares both variants of a model, and the filters.
func (t *Trial) judgePair(ctx context.Context, w io.Writer, look *models.Look, m Model) error {
	var edge, cloud []float64
	mixed := make([][]float64, len(Filters))
	sent := make([]int, len(Filters))
	var gap float64
	closed := make([]float64, len(Filters))
	for s := range t.Seeds {
		pairs, err := t.pairs(ctx, look, m, t.From+uint64(s)) //nolint:gosec // small
		if err != nil {
			return err
		}
		e, c := accuracy(pairs, func(p *pair) bool { return p.right }), accuracy(pairs, func(p *pair) bool { return p.cloud })
		edge, cloud, gap = append(edge, e), append(cloud, c), gap+c-e
		for i, name := range Filters {
			accurate, n, err := t.mixed(pairs, name)
			if err != nil {
				return err
			}
			mixed[i], sent[i] = append(mixed[i], accurate), sent[i]+n
			closed[i] += accurate - e
		}
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	say("%s: %d seeds of %d samples", m.Name, t.Seeds, t.Samples)
	say("  %-14s %s", "edge alone", figureOf(edge).percent())
	say("  %-14s %s", "all cloud", figureOf(cloud).percent())
	for i, name := range Filters {
		share := "no gap to close"
		if gap > 0 {
			share = fmt.Sprintf("%.0f %% of the gap closed", 100*closed[i]/gap)
		}
		say("  %-14s %s  %4.1f %% to the cloud, %s", name, figureOf(mixed[i]).percent(), 100*float64(sent[i])/float64(t.Seeds*t.Samples), share)
	}
	return nil
}

func accuracy(pairs []pair, right func(*pair) bool) float64 {
	n := 0
	for i := range pairs {
		if right(&pairs[i]) {
			n++
		}
	}
	return float64(n) / float64(len(pairs))
}

// mixed is the accuracy with the hardest share sent to the cloud, within a daily budget.
func (t *Trial) mixed(pairs []pair, filter string) (accurate float64, sent int, err error) {
	c := hard.Default(filter)
	c.Share, c.Seed = t.Share, 1
	f, err := hard.New(c)
	if err != nil {
		return 0, 0, err
	}
	budget := hard.NewBudget(0, int(t.Share*float64(len(pairs))), nil)
	accurate = accuracy(pairs, func(p *pair) bool {
		a := &p.edge
		if f.Hard(&hard.Example{Boxes: []float64{a.Confidence}, Scores: a.Scores, Logits: a.Logits}) && budget.Take() {
			sent++
			return p.cloud
		}
		return p.right
	})
	return accurate, sent, nil
}

// pairs runs both variants on every sample of a seed.
func (t *Trial) pairs(ctx context.Context, look *models.Look, m Model, seed uint64) ([]pair, error) {
	list := make([]pair, t.Samples)
	err := t.ask(ctx, look, m, seed, []string{models.Edge, models.Cloud}, func(i, label int, answers []models.Answer) {
		list[i] = pair{answers[0], answers[0].Index == label, answers[1].Index == label}
	})
	return list, err
}

// ask runs variants of a model on all samples of a seed, on all processors. answer is called with the answers for the i-th sample.
func (t *Trial) ask(ctx context.Context, look *models.Look, m Model, seed uint64, variants []string, answer func(i, label int, answers []models.Answer)) error {
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for k := range workers {
		var loaded []*models.Looked
		for _, v := range variants {
			one, err := look.Model(m.Name, v)
			if err != nil {
				errs[k] = err
				break
			}
			defer one.Close()
			loaded = append(loaded, one)
		}
		if errs[k] != nil {
			break
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := k; i < t.Samples && errs[k] == nil; i += workers {
				if errs[k] = ctx.Err(); errs[k] == nil {
					errs[k] = askOne(loaded, m.Source, seed, i, answer)
				}
			}
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

func askOne(loaded []*models.Looked, source *Source, seed uint64, i int, answer func(i, label int, answers []models.Answer)) error {
	r, label := source.Draw(seed, i, false)
	answers := make([]models.Answer, len(loaded))
	for k, m := range loaded {
		var err error
		if answers[k], err = m.Ask(&task.Task{EventID: fmt.Sprint(i), Readings: []task.Reading{r}}); err != nil {
			return err
		}
	}
	answer(i, label, answers)
	return nil
}

// judgeAuto prints how often an autoencoder classifies healthy signals as normal, and faulty ones as anomalies.
func (t *Trial) judgeAuto(ctx context.Context, w io.Writer, look *models.Look, m Model) error {
	var normal, faulty []float64
	for s := range t.Seeds {
		alarms, all := make([][2]bool, t.Samples), [2]float64{}
		if err := t.ask(ctx, look, m, t.From+uint64(s), []string{m.Variant}, func(i, label int, answers []models.Answer) { //nolint:gosec // small
			alarms[i] = [2]bool{answers[0].Anomaly, label > 0}
		}); err != nil {
			return err
		}
		quiet, found := 0.0, 0.0
		for _, a := range alarms {
			switch {
			case a[1]:
				all[1]++
				if a[0] {
					found++
				}
			default:
				all[0]++
				if !a[0] {
					quiet++
				}
			}
		}
		normal, faulty = append(normal, quiet/max(all[0], 1)), append(faulty, found/max(all[1], 1))
	}
	_, err := fmt.Fprintf(w, "%s: %d seeds of %d samples\n  %-14s %s\n  %-14s %s\n", m.Name, t.Seeds, t.Samples,
		"healthy, quiet", figureOf(normal).percent(), "faults found", figureOf(faulty).percent())
	return err
}
