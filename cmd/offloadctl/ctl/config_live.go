package ctl

import (
	"context"
	"fmt"
	"io"

	"app-offload/functions/config"
)

var liveManual = manual{
	name: "config live", arguments: "[flags]",
	purpose: `
  Prints the configuration that the running service has in force, as YAML: its file, Consul and the environment as they were at
  the start, with every change since then that was taken over. A change that was refused goes to the standard error, with the
  reason; the previous configuration is in force then. EdgeX's own /api/v3/config has the values of the start.
`,
	examples: `
  offloadctl config live
  offloadctl config live -json | jq .Offload.Writable.Policy.Default
  diff <(offloadctl config echo res/configuration.yaml) <(offloadctl config live)
`,
	files:       noFiles,
	environment: apiEnvironment,
	exits: `
  0 printed; 1 no answer, or the last change was refused; 2 wrong usage
`,
}

func liveVerb(ctx context.Context, sh *shell, args []string) error {
	fs := sh.asking(liveManual, "as JSON")
	rest, err := fs.parse(args)
	switch {
	case err != nil:
		return err
	case len(rest) > 0:
		return fs.misused("%q: config live takes no arguments; it asks the service", rest[0])
	}
	c, err := fs.api.client(sh)
	if err != nil {
		return err
	}
	return live(ctx, c, sh.out, sh.err, *fs.asJSON)
}

// live shows the configuration in force, and is errFound if the last change was refused.
func live(ctx context.Context, c *client, out, problems io.Writer, asJSON bool) error {
	var answer struct {
		Problem string        `json:"problem"`
		Offload config.Config `json:"Offload"`
	}
	if err := c.get(ctx, "/config", &answer); err != nil {
		return err
	}
	e := &effective{cfg: answer.Offload}
	if err := e.echo(out, asJSON); err != nil {
		return err
	}
	if answer.Problem == "" {
		return nil
	}
	fmt.Fprintf(problems, "the last change was refused: %s\n", clean(oneLine(answer.Problem)))
	return errFound
}
