package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/offloadctl/ctl"
	"app-offload/functions/config"
	"app-offload/functions/seal"
)

// upstream is the part of EdgeX's docker-compose-no-secty.yml that ours touches: its project, its network, and the names and ports in use. The broker
// is not in the default file, but in the one with MQTT as the bus.
const upstream = `
name: edgex
networks:
  edgex-network: {driver: bridge}
services:
  consul: {image: hashicorp/consul:1.16.2, container_name: edgex-core-consul, hostname: edgex-core-consul, networks: {edgex-network: null}, ports: ["127.0.0.1:8500:8500"]}
  database: {image: redis:7.0.14-alpine, container_name: edgex-redis, hostname: edgex-redis, networks: {edgex-network: null}, ports: ["127.0.0.1:6379:6379"]}
  mqtt-broker: {image: eclipse-mosquitto:2.0.18, container_name: edgex-mqtt-broker, hostname: edgex-mqtt-broker, networks: {edgex-network: null}, ports: ["127.0.0.1:1883:1883"]}
  core-common-config-bootstrapper: {image: edgexfoundry/core-common-config-bootstrapper:3.1.0, container_name: edgex-core-common-config-bootstrapper, networks: {edgex-network: null}}
  core-data:
    image: edgexfoundry/core-data:3.1.0
    container_name: edgex-core-data
    hostname: edgex-core-data
    networks: {edgex-network: null}
    ports: [{mode: ingress, host_ip: 127.0.0.1, target: 59880, published: "59880", protocol: tcp}]
  core-metadata: {image: edgexfoundry/core-metadata:3.1.0, container_name: edgex-core-metadata, networks: {edgex-network: null}, ports: ["127.0.0.1:59881:59881"]}
  core-command: {image: edgexfoundry/core-command:3.1.0, container_name: edgex-core-command, networks: {edgex-network: null}, ports: ["127.0.0.1:59882:59882"]}
  support-notifications: {image: edgexfoundry/support-notifications:3.1.0, container_name: edgex-support-notifications, networks: {edgex-network: null}, ports: ["127.0.0.1:59860:59860"]}
  support-scheduler: {image: edgexfoundry/support-scheduler:3.1.0, container_name: edgex-support-scheduler, networks: {edgex-network: null}, ports: ["127.0.0.1:59861:59861"]}
  app-rules-engine: {image: edgexfoundry/app-service-configurable:3.1.0, container_name: edgex-app-rules-engine, networks: {edgex-network: null}, ports: ["127.0.0.1:59701:59701"]}
  rules-engine: {image: lfedge/ekuiper:1.11.4-alpine, container_name: edgex-kuiper, networks: {edgex-network: null}, ports: ["127.0.0.1:59720:59720"]}
  device-rest: {image: edgexfoundry/device-rest:3.1.0, container_name: edgex-device-rest, networks: {edgex-network: null}, ports: ["127.0.0.1:59986:59986"]}
  device-virtual: {image: edgexfoundry/device-virtual:3.1.0, container_name: edgex-device-virtual, networks: {edgex-network: null}, ports: ["127.0.0.1:59900:59900"]}
  ui: {image: edgexfoundry/edgex-ui:3.1.0, container_name: edgex-ui-go, networks: {edgex-network: null}, ports: ["4000:4000"]}
`

// guarded are the additional services of the stack with security, with the settings that our file extends.
const guarded = `
volumes: {edgex-init: {}}
services:
  security-bootstrapper: {image: edgexfoundry/security-bootstrapper:3.1.0, container_name: edgex-security-bootstrapper, networks: {edgex-network: null}, volumes: ["edgex-init:/edgex-init"]}
  security-secretstore-setup: {image: edgexfoundry/security-secretstore-setup:3.1.0, container_name: edgex-security-secretstore-setup, networks: {edgex-network: null}, environment: {SECRETSTORE_HOST: edgex-vault}}
  security-proxy-setup: {image: edgexfoundry/security-proxy-setup:3.1.0, container_name: edgex-security-proxy-setup, networks: {edgex-network: null}}
  vault: {image: "hashicorp/vault:1.14.5", container_name: edgex-vault, networks: {edgex-network: null}}
`

// file reads one of our compose files.
func file(t *testing.T, name string) types.ConfigFile {
	t.Helper()
	raw, err := os.ReadFile("../../" + name)
	require.NoError(t, err)
	return types.ConfigFile{Filename: name, Content: raw}
}

func load(t *testing.T, files ...types.ConfigFile) *types.Project {
	t.Helper()
	p, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{WorkingDir: "../..", ConfigFiles: files, Environment: types.Mapping{}},
		func(o *loader.Options) { o.SetProjectName("edgex", true) })
	require.NoError(t, err)
	return p
}

// The compose file is valid alone and merged with EdgeX's, where it joins the network and uses no taken name or port.
func TestComposeJoinsTheStack(t *testing.T) {
	own, theirs := file(t, "docker-compose.yml"), types.ConfigFile{Filename: "no-secty.yml", Content: []byte(upstream)}
	alone, before := load(t, own), load(t, theirs)
	merged := load(t, theirs, own)
	require.Len(t, merged.Services, len(alone.Services)+len(before.Services), "none of EdgeX's services is overridden")
	require.Equal(t, "edgex_edgex-network", merged.Networks["edgex-network"].Name)
	requireNothingTwice(t, merged)

	edge := merged.Services["app-offload"]
	require.True(t, edge.ReadOnly)
	require.Equal(t, "2002:2001", edge.User)
	require.Equal(t, []string{"no-new-privileges:true"}, edge.SecurityOpt)
	require.Contains(t, edge.Networks, "edgex-network")
	require.Equal(t, "59740", edge.Ports[0].Published)
	require.True(t, slices.ContainsFunc(edge.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Type == "volume" && v.Target == "/spool" }))
}

// requireNothingTwice checks that each name and each host port is used once.
func requireNothingTwice(t *testing.T, p *types.Project) {
	t.Helper()
	owner := map[string]string{}
	for name, service := range p.Services {
		takes := []string{"name " + service.ContainerName}
		for _, port := range service.Ports {
			takes = append(takes, "port "+port.Published)
		}
		for _, thing := range takes {
			require.Empty(t, owner[thing], "%s takes the %s, as another does", name, thing)
			owner[thing] = name
		}
	}
}

// With security the service waits for the secret store, has its token and its secrets, and EdgeX's services know it.
func TestComposeJoinsTheSecureStack(t *testing.T) {
	merged := load(t, types.ConfigFile{Filename: "no-secty.yml", Content: []byte(upstream)}, types.ConfigFile{Filename: "secure.yml", Content: []byte(guarded)},
		file(t, "docker-compose.yml"), file(t, "res/compose/secure.yml"))
	requireNothingTwice(t, merged)
	edge := merged.Services["app-offload"]
	require.Equal(t, types.ShellCommand{"/edgex-init/ready_to_run_wait_install.sh"}, edge.Entrypoint)
	require.Equal(t, "/app-offload", edge.Command[0])
	require.Equal(t, "true", *edge.Environment["EDGEX_SECURITY_SECRET_STORE"], "it overrides the file without security")
	require.Equal(t, "edgex-app-offload", *edge.Environment["SERVICE_HOST"], "the rest of that file stays")
	require.True(t, edge.ReadOnly)
	mounted := map[string]bool{}
	for _, v := range edge.Volumes {
		mounted[v.Target] = v.ReadOnly
	}
	require.Equal(t, map[string]bool{"/etc/localtime": true, "/spool": false, "/edgex-init": true, "/tmp/edgex/secrets/app-offload": true}, mounted)
	for service, variable := range map[string]string{
		"security-secretstore-setup": "EDGEX_ADD_SECRETSTORE_TOKENS", "consul": "EDGEX_ADD_REGISTRY_ACL_ROLES", "security-proxy-setup": "EDGEX_ADD_PROXY_ROUTE",
	} {
		require.Contains(t, *merged.Services[service].Environment[variable], "app-offload", service)
		require.NotEmpty(t, merged.Services[service].Image, "%s is EdgeX's, with an addition of ours", service)
	}
	require.Contains(t, *merged.Services["security-secretstore-setup"].Environment["EDGEX_ADD_KNOWN_SECRETS"], "message-bus[app-offload]")
}

// Every variable in the compose file reaches a key: others would be silently ignored.
func TestComposeSetsOnlyKeysThatExist(t *testing.T) {
	raw := append(file(t, "docker-compose.yml").Content, file(t, "res/compose/secure.yml").Content...)
	raw = append(raw, file(t, "res/kubeedge/edge.yaml").Content...)
	known := map[string]bool{}
	c := config.Default()
	require.NoError(t, config.Walk(&c, func(k config.Key) error { known[k.Env()] = true; return nil }))
	found := regexp.MustCompile(`(?m)^\s+(OFFLOAD_[A-Z_]+):`).FindAllStringSubmatch(string(raw), -1)
	require.NotEmpty(t, found)
	for _, m := range found {
		require.True(t, known[m[1]], "%s overrides no key", m[1])
	}
}

// KubeEdge's router has a rule for each shipped class: it has no wildcards, and a class without a rule would never arrive.
func TestKubeEdgeRoutesEveryClass(t *testing.T) {
	rules := string(file(t, "res/kubeedge/router.yaml").Content)
	for class := range config.Default().Writable.Classes {
		require.Contains(t, rules, seal.BatchTopic("edge-1", class), class)
	}
	require.Contains(t, rules, seal.GoneTopic("edge-1"))
}

// The image contains what the compose file starts, and runs as the user who owns the spool.
func TestDockerfileShipsWhatComposeStarts(t *testing.T) {
	raw, err := os.ReadFile("../../Dockerfile")
	require.NoError(t, err)
	text := string(raw)
	for _, want := range []string{
		"ARG BUILDER_BASE=", "ARG FULL_BASE=", "ARG LITE_BASE=", "/out/bin/", "/out/offload-cloud", "ln -s app-offload /out/bin/" + ctl.Name,
		"dumb-init", "USER 2002:2001", "--chown=2002:2001 /out/spool /spool", "VOLUME /spool",
	} {
		require.Contains(t, text, want)
	}
	require.Equal(t, 2, strings.Count(text, "USER 2002:2001"), "both images")
}

// On an MQTT bus every service of the stack publishes at QoS 1, or no acknowledgement would protect an event.
func TestComposeAsksForQoS1OnAnMQTTBus(t *testing.T) {
	theirs := types.ConfigFile{Filename: "mqtt-bus.yml", Content: []byte(upstream)}
	p := load(t, theirs, file(t, "docker-compose.yml"), file(t, "res/compose/mqtt-bus.yml"))
	qos := p.Services["core-common-config-bootstrapper"].Environment["ALL_SERVICES_MESSAGEBUS_OPTIONAL_QOS"]
	require.NotNil(t, qos)
	require.Equal(t, "1", *qos)
	requireNothingTwice(t, p)
}
