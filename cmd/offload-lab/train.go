package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"app-offload/cmd/offload-lab/internal/classic"
	"app-offload/cmd/offload-lab/internal/rl"
	"app-offload/functions/policy"
)

type trainOptions struct {
	lesson                        lesson
	out, curve, checkpoint, judge string
	episodes                      int
	seed, judgeSeed               uint64
	made                          string
}

// trainVerb learns a lesson and prints, as the last line, how well it was learned.
func trainVerb(ctx context.Context, args []string) error {
	o := trainOptions{made: "offload-lab train " + strings.Join(args, " ")}
	var gateway gatewayFlags
	fs := flags("train", "{lessons}", lessonsHelp())
	name := fs.String("env", "offload", "what to learn, one of the lessons")
	fs.Uint64Var(&o.seed, "seed", 1, "seed of weights, episodes and exploration")
	steps := fs.Int("steps", 0, "steps to learn from, of offload the decisions whose both ways are tried, of defer episodes; 0 is the lesson's own number")
	settings := fs.String("set", "", "settings of the learner instead of the lesson's own, as JSON, such as {\"Rate\":0.001}")
	fs.StringVar(&gateway.data, "data", "", "folder with recordings for the lessons on offloading, as in compare, beside synthetic ones; default those alone")
	fs.StringVar(&gateway.part, "part", "", `recordings of -data to use: "learn", "judge" or all`)
	tailFlags(fs, &gateway.tail, 0.7)
	fs.StringVar(&o.out, "out", "", "file for what was learned")
	fs.StringVar(&o.curve, "curve", "", "file for the learning curve, a JSON object an update; appended to after a resume")
	fs.StringVar(&o.checkpoint, "checkpoint", "", "file to save the training in every minute and at Ctrl-C; if it exists the training goes on from it")
	fs.StringVar(&o.judge, "judge", "", "judge what is in this file and learn nothing")
	fs.IntVar(&o.episodes, "episodes", 100, "episodes to judge over, without exploring; 0 judges nothing")
	fs.Uint64Var(&o.judgeSeed, "judge-seed", 1_000_000, "seed of those episodes")
	if err := parse(fs, args); err != nil {
		return err
	}
	var err error
	if o.lesson, err = lessonNamed(*name, &gateway); err != nil {
		return err
	}
	if err := o.lesson.set(*settings, o.seed, *steps); err != nil {
		return err
	}
	return o.run(ctx)
}

func lessonsHelp() string {
	var b strings.Builder
	for _, l := range lessons(&gatewayFlags{}) {
		fmt.Fprintf(&b, "  %-12s %s\n", l.name, l.about)
	}
	return b.String()
}

func (o *trainOptions) run(ctx context.Context) error {
	if err := errors.Join(tryFile(o.out), tryFile(o.checkpoint)); err != nil {
		return err
	}
	result, err := o.learned(ctx)
	if err != nil {
		return err
	}
	if o.out != "" {
		if err := writeFile(o.out, func(to io.Writer) error { return result.Write(to, o.made) }); err != nil {
			return err
		}
	}
	return o.verdict(result)
}

// learned is what is to be judged: read from a file, or learned now.
func (o *trainOptions) learned(ctx context.Context) (learned, error) {
	if o.judge == "" {
		return o.train(ctx)
	}
	f, err := os.Open(o.judge)
	if err != nil {
		return nil, fmt.Errorf("opening what was learned: %w", err)
	}
	defer f.Close()
	result, err := o.lesson.read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.judge, err)
	}
	return result, nil
}

// train learns until the steps are done. When it is interrupted, what it has learned so far is in the checkpoint.
func (o *trainOptions) train(ctx context.Context) (learned, error) {
	t, err := o.student()
	if err != nil {
		return nil, err
	}
	curve, err := o.openCurve()
	if err != nil {
		return nil, err
	}
	defer curve.Close()
	progress := newBar(os.Stderr, *o.lesson.steps, t.Taken())
	lines, saved, latest := json.NewEncoder(curve), time.Now(), 0.0
	for !t.Finished() {
		p := t.Update()
		if err := lines.Encode(p); err != nil {
			return nil, fmt.Errorf("writing the learning curve: %w", err)
		}
		if p.Episodes > 0 {
			latest = p.Return
		}
		progress.show(p.Steps, fmt.Sprintf("%d steps, return %.1f, loss %.3f", p.Steps, latest, p.Policy))
		stopped := ctx.Err() != nil
		if stopped || t.Finished() || time.Since(saved) > time.Minute {
			saved = time.Now()
			if err := o.save(t); err != nil {
				return nil, err
			}
		}
		if stopped {
			return nil, fmt.Errorf("interrupted after %d of %d steps", t.Taken(), *o.lesson.steps)
		}
	}
	return t.Learned(), nil
}

// student begins anew, or goes on from the checkpoint.
func (o *trainOptions) student() (student, error) {
	if o.checkpoint == "" {
		return o.lesson.begin(nil)
	}
	f, err := os.Open(o.checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return o.lesson.begin(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the checkpoint: %w", err)
	}
	defer f.Close()
	s, err := o.lesson.begin(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.checkpoint, err)
	}
	return s, nil
}

func (o *trainOptions) save(s student) error {
	if o.checkpoint == "" {
		return nil
	}
	return writeFile(o.checkpoint, s.Save)
}

type discard struct{ io.Writer }

func (discard) Close() error { return nil }

func (o *trainOptions) openCurve() (io.WriteCloser, error) {
	if o.curve == "" {
		return discard{io.Discard}, nil
	}
	f, err := os.OpenFile(o.curve, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644) // #nosec G302 G304 -- a plot's data, where the user wants it
	if err != nil {
		return nil, fmt.Errorf("opening the learning curve: %w", err)
	}
	return f, nil
}

// verdict plays episodes that training has not seen and prints their returns.
func (o *trainOptions) verdict(result learned) error {
	if o.episodes <= 0 {
		return nil
	}
	returns, err := result.Returns(o.episodes, o.judgeSeed)
	if err != nil {
		return err
	}
	mean, deviation := moments(returns)
	fmt.Printf("%s seed %d: mean return %.2f ± %.2f over %d episodes, %.0f to %.0f\n", o.lesson.name, o.seed,
		mean, deviation, o.episodes, slices.Min(returns), slices.Max(returns))
	return nil
}

// moments are mean and standard deviation.
func moments(v []float64) (mean, deviation float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		deviation += (x - mean) * (x - mean) / float64(len(v))
	}
	return mean, math.Sqrt(deviation)
}

// writeFile writes beside the file and renames, so that an interrupted write leaves the old one whole. A device or a pipe is written to, and
// what a link leads to is replaced instead of the link.
func writeFile(path string, write func(io.Writer) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %s: %w", path, err)
		}
	}()
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	to := path
	if end, err := filepath.EvalSymlinks(path); err == nil {
		to = end
	}
	f, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(write(f), f.Chmod(0o644), f.Sync(), f.Close()); err != nil { // #nosec G302 -- others may read a network
		return err
	}
	return os.Rename(f.Name(), to)
}

// tryFile finds out before hours of work whether writeFile can write a file there. It leaves what is there.
func tryFile(path string) error {
	if info, err := os.Stat(path); path == "" || err == nil && info.Mode()&(fs.ModeDevice|fs.ModeNamedPipe) != 0 {
		return nil
	}
	tried := errors.New("tried")
	if err := writeFile(path, func(io.Writer) error { return tried }); !errors.Is(err, tried) {
		return err
	}
	return nil
}

// lesson is something that can be learned, with the settings by which it is learned well.
type lesson struct {
	name     string
	about    string
	settings any // *rl.Config, *rl.ImproveConfig or *rl.SearchConfig: how it is learned
	seed     *uint64
	steps    *int // to take
	env      func() (rl.Env, error)
	inputs   []string      // their names, where they have any
	rule     *gatewayFlags // of a lesson that learns no network but the rule of policy defer
}

// training is what all ways of learning have in common.
type training interface {
	Update() rl.Progress
	Finished() bool
	Taken() int
	Save(w io.Writer) error
}

// student is a training, whichever way it learns.
type student interface {
	training
	Learned() learned
}

// learned is what a student has learned.
type learned interface {
	// Write writes it as the service and the lab read it, with the command that made it.
	Write(to io.Writer, made string) error
	// Returns plays episodes from that seed on, without exploring.
	Returns(episodes int, seed uint64) ([]float64, error)
}

// lessons lists them all.
func lessons(g *gatewayFlags) []lesson {
	cartPoles := func() (rl.Env, error) { return &classic.CartPole{}, nil }
	acrobots := func() (rl.Env, error) { return &classic.Acrobot{}, nil }
	offloading, deferring, poles, swings, byPPO := rl.DefaultImprove(), rl.DefaultSearch(), cartPole(), acrobot(), offloadPPO()
	return []lesson{
		{
			"offload", "here or cloud, by taking both ways and counting what each costs in the end",
			&offloading, &offloading.Seed, &offloading.Steps, g.newGateway, policy.InputNames[:], nil,
		},
		{"offload-ppo", "here or cloud, by proximal policy optimisation", byPPO, &byPPO.Seed, &byPPO.Steps, g.newGateway, policy.InputNames[:], nil},
		{
			"defer", "which task a free server takes, by searching for the prices and weights that cost least",
			&deferring, &deferring.Seed, &deferring.Steps, nil, nil, g,
		},
		{"cartpole", "CartPole-v1: keep a pole upright, at most 500", poles, &poles.Seed, &poles.Steps, cartPoles, nil, nil},
		{"acrobot", "Acrobot-v1: swing two links up in few steps", swings, &swings.Seed, &swings.Steps, acrobots, nil, nil},
	}
}

// cartPole learns long from few steps at a time, as steps are what is scarce.
func cartPole() *rl.Config {
	c := rl.DefaultConfig()
	c.Steps, c.Envs, c.Horizon, c.Epochs, c.Minibatch = 100_000, 8, 64, 20, 256
	c.Hidden, c.Rate, c.Gamma, c.Lambda, c.NormObs = []int{32, 32}, 1e-3, 0.98, 0.8, false
	return &c
}

// acrobot learns in many small steps, first large and then small ones. Larger minibatches, more epochs or a lower rate settle
// for swings that take about four steps longer.
func acrobot() *rl.Config {
	c := rl.DefaultConfig()
	c.Steps, c.Envs, c.Horizon, c.Epochs, c.Minibatch = 1_000_000, 16, 256, 4, 64
	c.Hidden, c.Rate, c.Gamma, c.Lambda, c.Select = []int{64, 64}, 1e-3, 0.99, 0.94, 200
	return &c
}

func offloadPPO() *rl.Config {
	c := rl.DefaultConfig()
	c.Steps, c.Horizon, c.Hidden, c.Gamma, c.Minibatch = 2_000_000, 300, []int{32, 32}, 0.97, 400
	return &c
}

func lessonNamed(name string, g *gatewayFlags) (lesson, error) {
	var names []string
	for _, l := range lessons(g) {
		if l.name == name {
			return l, nil
		}
		names = append(names, l.name)
	}
	return lesson{}, fmt.Errorf("-env %q: there is no such lesson; use one of %s", name, strings.Join(names, ", "))
}

// set changes the named settings, and seed and steps where they are not 0.
func (l *lesson) set(settings string, seed uint64, steps int) error {
	if settings != "" {
		d := json.NewDecoder(strings.NewReader(settings))
		d.DisallowUnknownFields()
		if err := d.Decode(l.settings); err != nil {
			return fmt.Errorf("-set %s: %w", settings, err)
		}
	}
	*l.seed = seed
	if steps > 0 {
		*l.steps = steps
	}
	return nil
}

// begin makes a student; with a checkpoint to read it goes on from there.
func (l *lesson) begin(from io.Reader) (student, error) {
	switch c := l.settings.(type) {
	case *rl.Config:
		return l.beginPPO(c, from)
	case *rl.SearchConfig:
		s, err := rl.NewSearch(*c, numbersOf(policy.DefaultRule()), l.rule.newRulePlayer)
		if err != nil || from == nil {
			return ruleSearch{s, l.rule}, err
		}
		return ruleSearch{s, l.rule}, s.Resume(from)
	}
	s, err := rl.NewImprover(*l.settings.(*rl.ImproveConfig), l.env, greedyStart())
	if err != nil || from == nil {
		return ofNetwork{s, l}, err
	}
	return ofNetwork{s, l}, s.Resume(from)
}

func (l *lesson) beginPPO(c *rl.Config, from io.Reader) (student, error) {
	if from == nil {
		t, err := rl.NewTrainer(*c, l.env)
		return ofNetwork{t, l}, err
	}
	t, err := rl.Resume(from, *c, l.env)
	return ofNetwork{t, l}, err
}

// read reads what an earlier training has written.
func (l *lesson) read(from io.Reader) (learned, error) {
	if l.rule != nil {
		return l.rule.readRule(from)
	}
	n, err := policy.ReadNetwork(from)
	if err != nil {
		return nil, err
	}
	env, err := l.env()
	if err != nil {
		return nil, err
	}
	observation, actions := env.Spaces()
	actor, err := rl.Load(n, observation, actions)
	return network{actor, l}, err
}

// ofNetwork is a student of a network.
type ofNetwork struct {
	networker
	lesson *lesson
}

type networker interface {
	training
	Actor() *rl.Actor
}

func (s ofNetwork) Learned() learned { return network{s.Actor(), s.lesson} }

// network is a network to be written or judged.
type network struct {
	actor  *rl.Actor
	lesson *lesson
}

func (n network) Write(to io.Writer, made string) error {
	return n.actor.Network(made, n.lesson.inputs...).Write(to)
}

func (n network) Returns(episodes int, seed uint64) ([]float64, error) {
	env, err := n.lesson.env()
	if err != nil {
		return nil, err
	}
	return rl.Evaluate(n.actor, env, episodes, seed), nil
}
