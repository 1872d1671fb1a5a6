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
	"app-offload/functions/atomicfile"
	"app-offload/functions/policy"
)

type trainOptions struct {
	lesson                        lesson
	out, curve, checkpoint, judge string
	episodes                      int
	seed, judgeSeed               uint64
	made                          string
}

// trainVerb learns a lesson and prints the result of judging it as the last line.
func trainVerb(ctx context.Context, args []string) error {
	o := trainOptions{made: "offload-lab train " + strings.Join(args, " ")}
	var gateway gatewayFlags
	fs := flags("train", "{lessons}", lessonsHelp())
	name := fs.String("env", "offload", "lesson to learn")
	fs.Uint64Var(&o.seed, "seed", 1, "seed of weights, episodes and exploration")
	steps := fs.Int("steps", 0, "training steps; for offload, decisions with both targets tried; for defer, episodes; 0 means the lesson's default")
	settings := fs.String("set", "", "settings that override the lesson's own, as JSON, such as {\"Rate\":0.001}")
	fs.StringVar(&gateway.data, "data", "", "folder with recordings for the lessons on offloading, as in compare, in addition to synthetic ones")
	fs.StringVar(&gateway.part, "part", "", `recordings of -data to use: "learn", "judge" or all`)
	tailFlags(fs, &gateway.tail, 0.7)
	fs.StringVar(&o.out, "out", "", "file for the result")
	fs.StringVar(&o.curve, "curve", "", "file for the learning curve, one JSON object per update; appended to after a resume")
	fs.StringVar(&o.checkpoint, "checkpoint", "", "file to save the training in every minute and at Ctrl-C; if it exists, the training resumes from it")
	fs.StringVar(&o.judge, "judge", "", "judge the result in this file without training")
	fs.IntVar(&o.episodes, "episodes", 100, "episodes for judging, without exploration; 0 means no judging")
	fs.Uint64Var(&o.judgeSeed, "judge-seed", 1_000_000, "seed of those episodes")
	if err := parse(fs, args); err != nil {
		return err
	}
	if *steps < 0 || o.episodes < 0 {
		return fmt.Errorf("-steps %d -episodes %d: must not be below 0", *steps, o.episodes)
	}
	err := checkTail(&gateway.tail)
	if err != nil {
		return err
	}
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

// learned returns the result to judge: from a file, or of a training.
func (o *trainOptions) learned(ctx context.Context) (learned, error) {
	if o.judge == "" {
		return o.train(ctx)
	}
	f, err := os.Open(o.judge)
	if err != nil {
		return nil, fmt.Errorf("opening the result to judge: %w", err)
	}
	defer f.Close()
	result, err := o.lesson.read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.judge, err)
	}
	return result, nil
}

// train learns until the steps are done. After an interrupt, the checkpoint holds the progress.
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

// student starts a training, or resumes it from the checkpoint.
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
	f, err := os.OpenFile(o.curve, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644) // #nosec G302 G304 -- a plot's data, at the user's path
	if err != nil {
		return nil, fmt.Errorf("opening the learning curve: %w", err)
	}
	return f, nil
}

// verdict plays episodes unseen in training and prints their returns.
func (o *trainOptions) verdict(result learned) error {
	if o.episodes == 0 {
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

// moments returns mean and standard deviation.
func moments(v []float64) (mean, deviation float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		deviation += (x - mean) * (x - mean) / float64(len(v))
	}
	return mean, math.Sqrt(deviation)
}

// writeFile writes a temporary file beside path and renames it, so that an interrupted write leaves the old file intact. It writes directly to a
// device or a pipe, and follows a symbolic link instead of replacing it, also to a missing file.
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
	to, err := atomicfile.Resolve(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(write(f), f.Chmod(0o644), f.Sync(), f.Close()); err != nil { // #nosec G302 -- a network may be world-readable
		return err
	}
	return os.Rename(f.Name(), to)
}

// readFile reads a file up to a maximum size: a device may be endless.
func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is larger than %d MiB", path, most>>20)
	}
	return b, err
}

// tryFile checks before hours of work whether writeFile can write there. It leaves an existing file unchanged.
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

// lesson is a problem to learn, with settings that work well for it.
type lesson struct {
	name     string
	about    string
	settings any // *rl.Config, *rl.ImproveConfig or *rl.SearchConfig: the method
	seed     *uint64
	steps    *int // to take
	env      func() (rl.Env, error)
	inputs   []string      // names of the inputs, if they have names
	rule     *gatewayFlags // set for a lesson that learns the rule of policy defer instead of a network
}

// training is the common part of all methods.
type training interface {
	Update() rl.Progress
	Finished() bool
	Taken() int
	Save(w io.Writer) error
}

// student is a training by any method.
type student interface {
	training
	Learned() learned
}

// learned is the result of a student.
type learned interface {
	// Write writes it in the form that the service and the lab read, with the command that made it.
	Write(to io.Writer, made string) error
	// Returns plays episodes from that seed on, without exploration.
	Returns(episodes int, seed uint64) ([]float64, error)
}

// lessons lists all lessons.
func lessons(g *gatewayFlags) []lesson {
	cartPoles := func() (rl.Env, error) { return &classic.CartPole{}, nil }
	acrobots := func() (rl.Env, error) { return &classic.Acrobot{}, nil }
	offloading, deferring, poles, swings, byPPO := rl.DefaultImprove(), rl.DefaultSearch(), cartPole(), acrobot(), offloadPPO()
	return []lesson{
		{
			"offload", "local or cloud, by trying both targets and comparing their final costs",
			&offloading, &offloading.Seed, &offloading.Steps, g.newGateway, policy.InputNames[:], nil,
		},
		{"offload-ppo", "local or cloud, by proximal policy optimisation", byPPO, &byPPO.Seed, &byPPO.Steps, g.newGateway, policy.InputNames[:], nil},
		{
			"defer", "the task for a free server, by searching for the prices and weights of lowest cost",
			&deferring, &deferring.Seed, &deferring.Steps, nil, nil, g,
		},
		{"cartpole", "CartPole-v1: keep a pole upright, at most 500", poles, &poles.Seed, &poles.Steps, cartPoles, nil, nil},
		{"acrobot", "Acrobot-v1: swing two links up in few steps", swings, &swings.Seed, &swings.Steps, acrobots, nil, nil},
	}
}

// cartPole learns long from few steps at a time, since steps are scarce.
func cartPole() *rl.Config {
	c := rl.DefaultConfig()
	c.Steps, c.Envs, c.Horizon, c.Epochs, c.Minibatch = 100_000, 8, 64, 20, 256
	c.Hidden, c.Rate, c.Gamma, c.Lambda, c.NormObs = []int{32, 32}, 1e-3, 0.98, 0.8, false
	return &c
}

// acrobot learns in many small updates with a decreasing step size. Larger minibatches, more epochs or a lower rate converge to swings that take
// about four steps longer.
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
	return lesson{}, fmt.Errorf("-env %q: must be one of %s", name, strings.Join(names, ", "))
}

// set overrides the named settings, and seed and steps if they are not 0.
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

// begin creates a student; with a checkpoint to read, it resumes from there.
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

// read reads the result of an earlier training.
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

// network is a network to write or to judge.
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
