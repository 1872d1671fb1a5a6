// offloadctl is the operator's tool on the gateway. Its code is in package ctl, which app-offload contains too: app-offload acts as this tool when
// its program name is offloadctl, so that an image needs only one binary.
package main

import (
	"os"

	"app-offload/cmd/offloadctl/ctl"
)

func main() { os.Exit(ctl.Main()) }
