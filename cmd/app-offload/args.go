package main

import (
	options "flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"app-offload/functions/check"
	"app-offload/functions/version"
)

// The options of EdgeX's SDK, with and without a value. The SDK parses them itself. It ignores every argument after an unknown one, so known checks
// all of them first.
var (
	valued   = []string{"cp", "configProvider", "cc", "commonConfig", "cf", "configFile", "p", "profile", "cd", "configDir", "rsh", "remoteServiceHosts", "sk", "serviceKey"}
	switches = []string{"o", "overwrite", "r", "registry", "d", "dev", "s", "skipVersionCheck", "h", "help"}
)

// words are the arguments that may replace options.
var words = []string{"version"}

// special handles the invocations that do not start the service: version and wrong arguments. For help it prints the examples, and the SDK does the
// rest. done is false if the service must start.
func special(args []string, out, problems io.Writer) (code int, done bool) {
	if len(args) == 1 && slices.Contains([]string{"version", "-version", "--version"}, args[0]) {
		_, _ = fmt.Fprintln(out, version.Line(serviceKey))
		return 0, true
	}
	if err := known(args); err != nil {
		_, _ = fmt.Fprintf(problems, "%s: %v; see `%s -h`\n", serviceKey, err, serviceKey)
		return 2, true
	}
	help(args, out)
	return 0, false
}

// known rejects arguments that the SDK would not understand.
func known(args []string) error {
	flags := options.NewFlagSet("", options.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, name := range valued {
		flags.String(name, "", "")
	}
	for _, name := range switches {
		flags.Bool(name, false, "")
	}
	err := flags.Parse(withProvider(args))
	if name, unknown := unknownOption(err); unknown {
		return fmt.Errorf("unknown option -%s%s", name, check.DidYouMean(name, append(slices.Concat(valued, switches), words...)))
	}
	if err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return nil
	}
	rest := flags.Arg(0)
	if i := len(args) - flags.NArg() - 1; i >= 0 && isProvider(args[i]) {
		return fmt.Errorf("%q is separated from its option: write %s=%s", rest, args[i], rest)
	}
	switch rest {
	case "version":
		return fmt.Errorf("version takes no other arguments")
	case "help":
		return fmt.Errorf("unknown argument %q; did you mean -h?", rest)
	}
	return fmt.Errorf("unknown argument %q%s", rest, check.DidYouMean(rest, words))
}

// withProvider gives the option -cp a value, as the SDK does, since -cp may stand without one.
func withProvider(args []string) []string {
	args = slices.Clone(args)
	for i, arg := range args {
		if isProvider(arg) {
			args[i] = arg + "=default"
		}
	}
	return args
}

func isProvider(arg string) bool {
	name := strings.TrimLeft(arg, "-")
	return strings.HasPrefix(arg, "-") && (name == "cp" || name == "configProvider")
}

// unknownOption returns the name of the option that the flag package rejected.
func unknownOption(err error) (name string, unknown bool) {
	if err == nil {
		return "", false
	}
	return strings.CutPrefix(err.Error(), "flag provided but not defined: -")
}

// examples are printed before the SDK's options.
const examples = `app-offload decides for every piece of EdgeX sensor data whether to process it locally or to send it to the cloud, and loses
none of it on the way.

Examples:
  app-offload -cp=consul.http://localhost:8500 --registry   in an EdgeX stack: configuration in Consul, below
                                                            edgex/v3/app-offload, seeded from res/configuration.yaml
  app-offload -cp=consul.http://localhost:8500 -r -o        the same, and overwrite Consul with the file's values
  app-offload -cc=common.yaml -cd=res                       without Consul: all configuration from files
  OFFLOAD_EXPORT_BROKER=ssl://cloud:8883 app-offload …      any key by its path; see res/configuration.yaml
  OFFLOAD_WRITABLE_POLICY_DEFAULT=deadline app-offload …
  app-offload version                                       prints version and commit

Unless EDGEX_SECURITY_SECRET_STORE is "false", it waits for its token from the secret store.

While it runs (port 59740 by default):
  http://localhost:59740/api/v3/offload/ui                  the page
  curl http://localhost:59740/api/v3/offload/status         the same as JSON; /decisions, /task, /metrics and more are in res/openapi.yaml
  offloadctl status                                         the same as text
  offloadctl ui -token-file jwt                             the page where the API requires a JWT, as in secure mode
  offloadctl config lint res/configuration.yaml             before a change

`

// help prints the examples if the arguments ask for help. The SDK then prints the options and ends the process.
func help(args []string, to io.Writer) {
	asked := func(arg string) bool { return arg == "-h" || arg == "--h" || arg == "-help" || arg == "--help" }
	if slices.ContainsFunc(args, asked) {
		_, _ = fmt.Fprint(to, examples)
	}
}
