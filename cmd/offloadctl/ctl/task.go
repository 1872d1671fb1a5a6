package ctl

import (
	"context"
	"flag"
	"fmt"
	"math"
	"net/http"
	"slices"
)

// taskRequest is the body of POST /task.
type taskRequest struct {
	DataSize   float64  `json:"dataSize"`
	Complexity *float64 `json:"complexity,omitempty"`
	Deadline   float64  `json:"deadline,omitempty"`
	Policy     string   `json:"policy,omitempty"`
}

// placement is the service's answer. Times are in ms, and absent for an unreachable target.
type placement struct {
	TaskID      uint64   `json:"taskId"`
	Action      string   `json:"action"`
	Score       float64  `json:"score"`
	Policy      string   `json:"policy"`
	LocalTime   *float64 `json:"localTime"`
	CloudTime   *float64 `json:"cloudTime"`
	Explanation string   `json:"explanation"`
}

func taskVerb(ctx context.Context, sh *shell, args []string) error {
	fs := sh.asking("task", "the service's answer as JSON")
	var req taskRequest
	fs.Float64Var(&req.DataSize, "size", 0, "the task's data in KB of 1,024 bytes")
	complexity := fs.Float64("complexity", 50, "work per KB, 0 to 100")
	fs.Float64Var(&req.Deadline, "deadline", 0, "`ms` from now until the result is needed; 0 means no deadline")
	fs.StringVar(&req.Policy, "policy", "", "the policy to use; empty means the configured one")
	err := fs.parseOnly(args, "task takes flags only, such as -size 200 -deadline 100")
	switch {
	case err != nil:
		return err
	case !given(fs.FlagSet, "size"):
		return fs.misused("-size is missing, the task's data in KB, such as -size 200")
	case !finite(req.DataSize, *complexity, req.Deadline):
		return fs.misused("-size %g, -complexity %g, -deadline %g: must be finite numbers", req.DataSize, *complexity, req.Deadline)
	}
	if given(fs.FlagSet, "complexity") {
		req.Complexity = complexity
	}
	var p placement
	if done, err := fs.ask(ctx, http.MethodPost, "/task", req, &p); done {
		return err
	}
	_, err = fmt.Fprintf(sh.out, "%s\n\n%s\n\nlocal %s, cloud %s; score %.3f, policy %s; `offloadctl explain %d` shows more\n", p.Action, clean(p.Explanation),
		milliseconds(p.LocalTime), milliseconds(p.CloudTime), p.Score, clean(p.Policy), p.TaskID)
	return err
}

// finite reports whether all numbers are finite; flags accept NaN and Inf.
func finite(all ...float64) bool {
	return !slices.ContainsFunc(all, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
}

func given(fs *flag.FlagSet, name string) (found bool) {
	fs.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

func milliseconds(ms *float64) string {
	if ms == nil {
		return "out of reach"
	}
	return duration(*ms / 1e3)
}
