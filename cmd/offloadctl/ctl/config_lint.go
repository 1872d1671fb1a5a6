package ctl

import (
	"context"
	"fmt"
	"io"
)

var lintManual = manual{
	name: "config lint", arguments: "FILE [flags]",
	purpose: `
  Checks a configuration.yaml: section Offload, the trigger and the log level. It names all mistakes at once: where each stands, key,
  value, what is allowed, and an example. It finds what the service would refuse, and what it would ignore: keys that do not exist.
`,
	examples: `
  offloadctl config lint res/configuration.yaml && docker compose restart app-offload
  OFFLOAD_SPOOL_QUOTAMIB=8 offloadctl config lint res/configuration.yaml
  offloadctl config lint -json - < configuration.yaml | jq -r '.problems[].key'
`,
	files:       oneFile,
	environment: fileEnvironment,
	exits: `
  0 no mistakes; 1 mistakes, or notes with -strict, which are listed, or it could not be read; 2 wrong usage
`,
}

func lintVerb(_ context.Context, sh *shell, args []string) error {
	fs := sh.reading(lintManual, "as JSON")
	strict := fs.Bool("strict", false, "notes are mistakes, too, such as a variable that names no key")
	e, err := fs.load(args)
	if err != nil {
		return err
	}
	err = e.lint(sh.out, *fs.asJSON)
	if err == nil && *strict && len(e.remarks) > 0 {
		err = errFound
	}
	return err
}

// lint prints every problem, and returns errFound if there is one.
func (e *effective) lint(out io.Writer, asJSON bool) error {
	if asJSON {
		report := struct {
			File     string    `json:"file"`
			Problems []problem `json:"problems"`
			Remarks  []string  `json:"remarks"`
		}{e.file, append([]problem{}, e.problems...), append([]string{}, e.remarks...)}
		if err := writeJSON(out, report); err != nil {
			return err
		}
		return e.complain(io.Discard)
	}
	err := e.complain(out)
	if err == nil {
		fmt.Fprintf(out, "%s: no mistakes\n", e.file)
	}
	return err
}
