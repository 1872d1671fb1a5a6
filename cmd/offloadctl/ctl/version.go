package ctl

import (
	"context"
	"fmt"

	"app-offload/functions/version"
)

var versionManual = manual{
	name:     "version",
	purpose:  "  Prints version and commit of this program. Those of a running service are in `offloadctl status`.\n",
	examples: "  offloadctl version\n",
	files:    noFiles,
	exits:    "  0 always; 2 wrong usage\n",
}

func versionVerb(_ context.Context, sh *shell, args []string) error {
	fs := sh.flags(versionManual)
	rest, err := fs.parse(args)
	switch {
	case err != nil:
		return err
	case len(rest) > 0:
		return fs.misused("%q: version takes no arguments", rest[0])
	}
	_, err = fmt.Fprintln(sh.out, version.Line(Name))
	return err
}
