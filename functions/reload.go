package functions

import (
	"errors"
	"fmt"

	"app-offload/functions/config"
	"app-offload/functions/decide"
)

// reloadable is a part of the service that a changed configuration replaces. prepare does everything that can fail and changes nothing; commit cannot
// fail.
type reloadable struct {
	name    string
	prepare func(w config.Writable, rules *decide.Rules) (commit func(), err error)
}

// reloadables lists the parts in the order in which they change. The rules change after the parts they refer to, and subscriptions after the rules
// that ask for them.
func (s *Service) reloadables() []reloadable {
	return []reloadable{
		{"local processing", func(_ config.Writable, r *decide.Rules) (func(), error) {
			return s.local.Prepare(s.cfg.Local, r.Classes)
		}},
		{"batches", func(w config.Writable, r *decide.Rules) (func(), error) {
			return s.scheduler.Prepare(w.Batch, r.Classes)
		}},
		{"rules", func(w config.Writable, r *decide.Rules) (func(), error) {
			return func() {
				s.follow(r)
				s.cfg.Writable = w
				s.parker.Nudge()
			}, nil
		}},
		{"subscriptions", func(w config.Writable, r *decide.Rules) (func(), error) {
			begins := w.Federate.On() && s.member.Status() == nil || r.Model.Credits() && !s.rules.Load().Model.Credits()
			return func() { s.join(w.Federate, begins) }, nil
		}},
	}
}

// Reload applies a changed configuration of the writable settings: all of it, or nothing on an error.
func (s *Service) Reload(w config.Writable) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem = ""
	if err := s.reload(w, s.reloadables()); err != nil {
		return s.refuse(err)
	}
	return nil
}

// RefuseConfiguration records why a changed configuration could not be read, and returns the error that Reload would return. The previous
// configuration stays in force.
func (s *Service) RefuseConfiguration(why error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuse(why)
}

// refuse records why a configuration was rejected. The caller holds the lock.
func (s *Service) refuse(why error) error {
	err := fmt.Errorf("configuration rejected, keeping the previous one:\n%w", why)
	s.problem = err.Error()
	return err
}

// reload prepares every part, and commits them only if none fails. The caller holds the lock.
func (s *Service) reload(w config.Writable, parts []reloadable) error {
	if err := w.Validate(); err != nil {
		return err
	}
	before := s.rules.Load()
	model, err := before.Model.With(w.Score)
	if err != nil {
		return err
	}
	rules, err := s.cfg.Rules(w, model, decide.Local{Reads: s.readsAll, Hard: s.judgedHard}, before)
	if err != nil {
		return err
	}
	var commits []func()
	var errs []error
	for _, part := range parts {
		commit, err := part.prepare(w, rules)
		if err != nil {
			errs = append(errs, fmt.Errorf("preparing %s: %w", part.name, err))
		}
		commits = append(commits, commit)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, commit := range commits {
		commit()
	}
	return nil
}

// Config returns the configuration in force.
func (s *Service) Config() config.Config {
	cfg, _ := s.configuration()
	return cfg
}

// configuration returns the configuration in force, and why the last change was rejected, "" if it was not.
func (s *Service) configuration() (cfg config.Config, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg, s.problem
}
