package ctl

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
)

var taskManual = manual{
	name: "task", arguments: "-size KB [flags]",
	purpose: `
  Asks the node where a task should be processed. Its data stay where they are: nothing is sent or computed. Guards and
  policies are those of the service, in the state the node is in now.
`,
	examples: `
  offloadctl task -size 200 -deadline 100
  offloadctl task -size 1000 -complexity 50 -deadline 150 -policy deadline
  offloadctl task -size 512 -complexity 80 -json | jq -r .action
`,
	files:       noFiles,
	environment: apiEnvironment,
	exits:       apiExits,
}

// taskRequest is the body of POST /task.
type taskRequest struct {
	DataSize   float64  `json:"dataSize"`
	Complexity *float64 `json:"complexity,omitempty"`
	Deadline   float64  `json:"deadline,omitempty"`
	Policy     string   `json:"policy,omitempty"`
}

// placement is the service's answer; times are in ms, and absent for a way that cannot be used.
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
	fs := sh.asking(taskManual, "the service's answer as JSON")
	var req taskRequest
	fs.Float64Var(&req.DataSize, "size", 0, "the task's data in KB of 1,024 bytes")
	complexity := fs.Float64("complexity", 50, "how much work a KB is, 0 to 100")
	fs.Float64Var(&req.Deadline, "deadline", 0, "ms from now until the result is wanted; 0 is no deadline")
	fs.StringVar(&req.Policy, "policy", "", "the policy to ask; the configured one if empty")
	rest, err := fs.parse(args)
	switch {
	case err != nil:
		return err
	case len(rest) > 0:
		return fs.misused("%q: task takes flags only, such as -size 200 -deadline 100", rest[0])
	case !given(fs.FlagSet, "size"):
		return fs.misused("-size is missing, the task's data in KB, such as -size 200")
	case !finite(req.DataSize, *complexity, req.Deadline):
		return fs.misused("-size %g, -complexity %g, -deadline %g: must be numbers that are not infinite", req.DataSize, *complexity, req.Deadline)
	}
	if given(fs.FlagSet, "complexity") {
		req.Complexity = complexity
	}
	c, err := fs.api.client(sh)
	if err != nil {
		return err
	}
	return place(ctx, c, sh.out, req, *fs.asJSON)
}

// finite reports whether all are numbers, which flags need not be: they take NaN and Inf.
func finite(all ...float64) bool {
	return !slices.ContainsFunc(all, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
}

func given(fs *flag.FlagSet, name string) (found bool) {
	fs.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// place asks for a place for the task.
func place(ctx context.Context, c *client, out io.Writer, req taskRequest, asJSON bool) error {
	var p placement
	if err := c.answer(ctx, http.MethodPost, "/task", req, out, asJSON, &p); err != nil || asJSON {
		return err
	}
	_, err := fmt.Fprintf(out, "%s\n\n%s\n\nlocal %s, cloud %s; score %.3f, policy %s; `offloadctl explain %d` shows more\n", p.Action, clean(p.Explanation),
		milliseconds(p.LocalTime), milliseconds(p.CloudTime), p.Score, clean(p.Policy), p.TaskID)
	return err
}

func milliseconds(ms *float64) string {
	if ms == nil {
		return "out of reach"
	}
	return duration(*ms / 1e3)
}
