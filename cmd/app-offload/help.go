package main

import (
	"fmt"
	"io"
	"slices"
)

// examples come before the options, which are the SDK's.
const examples = `app-offload decides for every piece of EdgeX sensor data whether to process it here or to send it to the cloud, and loses
none of it on the way.

Examples:
  app-offload -cp=consul.http://localhost:8500 --registry   in an EdgeX stack: configuration in Consul, below
                                                            edgex/v3/app-offload, seeded from res/configuration.yaml
  app-offload -cp=consul.http://localhost:8500 -r -o        the same, and Consul takes the file's values once more
  app-offload -cc=common.yaml -cd=res                       without Consul: all from files
  OFFLOAD_EXPORT_BROKER=ssl://cloud:8883 app-offload …      any key by its path; see res/configuration.yaml
  OFFLOAD_WRITABLE_POLICY_DEFAULT=deadline app-offload …
  app-offload version                                       prints version and commit

Where EDGEX_SECURITY_SECRET_STORE is not "false" it waits for its token of the secret store.

While it runs (port 59740 by default):
  http://localhost:59740/api/v3/offload/ui                  the page
  curl http://localhost:59740/api/v3/offload/status         the same as JSON; /decisions, /task, /metrics and more are in res/openapi.yaml
  offloadctl status                                         the same in words
  offloadctl ui -token-file jwt                             the page where the API wants a JWT, as in secure mode
  offloadctl config lint res/configuration.yaml             before a change

`

// help prints the examples if somebody asks for help; what it can be told is then printed by the SDK, which also ends the
// process.
func help(args []string, to io.Writer) {
	asked := func(arg string) bool { return arg == "-h" || arg == "--h" || arg == "-help" || arg == "--help" }
	if slices.ContainsFunc(args, asked) {
		_, _ = fmt.Fprint(to, examples)
	}
}
