// app-offload is an EdgeX Foundry 3.1 application service that decides for every piece of sensor data whether to process it locally or to send it to
// the cloud, and then does so without losing any of it.
package main

import (
	"os"
	"path/filepath"

	"app-offload/cmd/offloadctl/ctl"
)

// serviceKey is the name of the service in EdgeX.
const serviceKey = "app-offload"

// main runs the service, or the operator's tool if called by that name: an image has one binary for both.
func main() {
	if filepath.Base(os.Args[0]) == ctl.Name {
		os.Exit(ctl.Main())
	}
	os.Exit(run())
}
