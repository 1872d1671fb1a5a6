// offloadctl is the operator's tool on the gateway. What it does is in the folder ctl, one file a verb, since app-offload
// carries it too: called by the name offloadctl, that program is this tool, so that an image needs one binary for both.
package main

import (
	"os"

	"app-offload/cmd/offloadctl/ctl"
)

func main() { os.Exit(ctl.Main()) }
