package ctl

import (
	"context"
	"fmt"

	"app-offload/functions/version"
)

var versionManual = manual{
	name: "version", arguments: "[flags]",
	purpose:  "  Prints version and commit of this program. Those of a running service are in `offloadctl status`.\n",
	examples: "  offloadctl version\n  offloadctl version -json | jq -r .commit\n",
	files:    noFiles,
	exits:    "  0 always; 2 wrong usage\n",
}

func versionVerb(_ context.Context, sh *shell, args []string) error {
	fs := sh.flags(versionManual)
	asJSON := fs.Bool("json", false, "as JSON: version, commit, go")
	rest, err := fs.parse(args)
	switch {
	case err != nil:
		return err
	case len(rest) > 0:
		return fs.misused("%q: version takes no arguments", rest[0])
	}
	if *asJSON {
		return writeJSON(sh.out, version.Get())
	}
	_, err = fmt.Fprintln(sh.out, version.Line(Name))
	return err
}
