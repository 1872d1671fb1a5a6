package main

import (
	"context"
	"encoding/json"
	"fmt"

	"app-offload/functions/version"
)

const versionUsage = `Usage: offload-cloud version [-json]

Prints which build this is.

Flags:
`

func versionVerb(_ context.Context, args []string, std streams) error {
	fs := newFlags("version", versionUsage, std)
	asJSON := fs.Bool("json", false, "as a JSON object")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(std.out).Encode(version.Get())
	}
	_, err := fmt.Fprintln(std.out, version.Line("offload-cloud"))
	return err
}
