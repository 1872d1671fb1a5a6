// Package check decodes the manifests strictly into the published types of Kubernetes and KubeEdge. It is a module of its own, so
// that app-offload does not depend on either.
package check

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	rules "github.com/kubeedge/api/apis/rules/v1"
	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/yaml"
)

// manifests is everything in the folder, by its kind.
type manifests struct {
	deployments map[string]*apps.Deployment
	configMaps  map[string]*core.ConfigMap
	services    map[string]*core.Service
	claims      map[string]*core.PersistentVolumeClaim
	namespaces  map[string]*core.Namespace
	endpoints   map[string]*rules.RuleEndpoint
	rules       map[string]*rules.Rule
}

func load(t *testing.T) *manifests {
	t.Helper()
	m := &manifests{
		map[string]*apps.Deployment{},
		map[string]*core.ConfigMap{},
		map[string]*core.Service{},
		map[string]*core.PersistentVolumeClaim{},
		map[string]*core.Namespace{},
		map[string]*rules.RuleEndpoint{},
		map[string]*rules.Rule{},
	}
	for _, name := range []string{"edge.yaml", "cloud.yaml", "router.yaml"} {
		raw, err := os.ReadFile("../" + name)
		require.NoError(t, err)
		documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(raw)))
		for {
			document := make([]byte, len(raw))
			n, err := documents.Read(document)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, name)
			m.decode(t, name, document[:n])
		}
	}
	return m
}

// decode takes one document over; a field that its type does not have is an error, and so is an unexpected type.
func (m *manifests) decode(t *testing.T, file string, document []byte) {
	t.Helper()
	var what struct{ APIVersion, Kind string }
	require.NoError(t, strict.Unmarshal(document, &what))
	switch what.APIVersion + " " + what.Kind {
	case "apps/v1 Deployment":
		keep(t, m.deployments, document, &apps.Deployment{})
	case "v1 ConfigMap":
		keep(t, m.configMaps, document, &core.ConfigMap{})
	case "v1 Service":
		keep(t, m.services, document, &core.Service{})
	case "v1 PersistentVolumeClaim":
		keep(t, m.claims, document, &core.PersistentVolumeClaim{})
	case "v1 Namespace":
		keep(t, m.namespaces, document, &core.Namespace{})
	case rules.SchemeGroupVersion.String() + " RuleEndpoint":
		keep(t, m.endpoints, document, &rules.RuleEndpoint{})
	case rules.SchemeGroupVersion.String() + " Rule":
		keep(t, m.rules, document, &rules.Rule{})
	default:
		require.Fail(t, "a kind without a check", "%s: %s %s", file, what.APIVersion, what.Kind)
	}
}

func keep[T interface{ GetName() string }](t *testing.T, into map[string]T, document []byte, object T) {
	t.Helper()
	require.NoError(t, strict.UnmarshalStrict(document, object), "%s", document)
	require.Empty(t, validation.IsDNS1123Subdomain(object.GetName()), object.GetName())
	require.NotContains(t, into, object.GetName(), "two have one name")
	into[object.GetName()] = object
}

func TestManifestsAreOfTheirTypes(t *testing.T) {
	m := load(t)
	require.Len(t, m.deployments, 2)
	for name, d := range m.deployments {
		require.Equal(t, "offload", d.Namespace, name)
		require.Equal(t, int32(1), *d.Spec.Replicas, "%s: one owns its disk", name)
		require.Equal(t, apps.RecreateDeploymentStrategyType, d.Spec.Strategy.Type, name)
		for key, value := range d.Spec.Selector.MatchLabels {
			require.Equal(t, value, d.Spec.Template.Labels[key], "%s selects its pods", name)
		}
		require.GreaterOrEqual(t, *d.Spec.Template.Spec.TerminationGracePeriodSeconds, int64(10), name)
		for _, c := range d.Spec.Template.Spec.Containers {
			require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, name)
			require.NotNil(t, c.LivenessProbe.HTTPGet, name)
			require.NotNil(t, c.ReadinessProbe.HTTPGet, name)
			requireVolumes(t, &d.Spec.Template.Spec, c.VolumeMounts)
		}
	}
	requireEdge(t, m)
	requireCloud(t, m)
}

func requireVolumes(t *testing.T, pod *core.PodSpec, mounts []core.VolumeMount) {
	t.Helper()
	for _, mount := range mounts {
		require.True(t, slices.ContainsFunc(pod.Volumes, func(v core.Volume) bool { return v.Name == mount.Name }), mount.Name)
	}
}

// requireEdge holds that the edge's pod is tied to its edge node, and takes the node's name for its own.
func requireEdge(t *testing.T, m *manifests) {
	t.Helper()
	pod := m.deployments["app-offload-edge-1"].Spec.Template.Spec
	require.Contains(t, pod.NodeSelector, "node-role.kubernetes.io/edge")
	c := pod.Containers[0]
	require.Equal(t, "spec.nodeName", c.Env[0].ValueFrom.FieldRef.FieldPath)
	require.Equal(t, "OFFLOAD_NODE", c.Env[0].Name)
	config := m.configMaps[c.EnvFrom[0].ConfigMapRef.Name]
	require.Equal(t, "json", config.Data["OFFLOAD_SEAL_FORM"], "KubeEdge carries text")
	require.True(t, pod.HostNetwork)
	for _, probe := range []*core.Probe{c.LivenessProbe, c.ReadinessProbe} {
		require.Equal(t, config.Data["SERVICE_HOST"], probe.HTTPGet.Host, "the probes ask where it listens")
	}
	require.Equal(t, "receipt", config.Data["OFFLOAD_EXPORT_CONFIRM"], "KubeEdge acknowledges nothing")
}

// requireCloud holds that the service finds the consumer's inlet.
func requireCloud(t *testing.T, m *manifests) {
	t.Helper()
	d, service := m.deployments["offload-cloud"], m.services["offload-cloud"]
	for key, value := range service.Spec.Selector {
		require.Equal(t, value, d.Spec.Template.Labels[key])
	}
	require.Contains(t, d.Spec.Template.Spec.Containers[0].Args, "-from=http://:8080")
	require.Contains(t, m.claims, d.Spec.Template.Spec.Volumes[0].PersistentVolumeClaim.ClaimName)
	require.Contains(t, m.namespaces, d.Namespace)
}

// Each topic of the node has its rule, to the path of the same name; receipts come back to the topic to which the node subscribes.
func TestRulesCarryEveryTopic(t *testing.T) {
	m := load(t)
	routed := map[string]bool{}
	for name, r := range m.rules {
		source, target := m.endpoints[r.Spec.Source], m.endpoints[r.Spec.Target]
		require.NotNil(t, source, name)
		require.NotNil(t, target, name)
		if source.Spec.RuleEndpointType == rules.RuleEndpointTypeEventBus {
			topic := r.Spec.SourceResource["topic"]
			require.Equal(t, "edge-1", r.Spec.SourceResource["node_name"], name)
			require.NotContains(t, topic, "+", "the router knows no wildcards")
			require.Equal(t, rules.RuleEndpointTypeRest, target.Spec.RuleEndpointType, name)
			require.Equal(t, "http://offload-cloud.offload:8080/"+topic, r.Spec.TargetResource["resource"], name)
			routed[topic] = true
		}
	}
	for _, topic := range []string{"batch/camera", "batch/default", "batch/vibration", "gone"} {
		require.True(t, routed["offload/v1/edge-1/"+topic], topic)
	}
	back := m.rules["receipts"]
	require.Equal(t, rules.RuleEndpointTypeRest, m.endpoints[back.Spec.Source].Spec.RuleEndpointType)
	require.Equal(t, rules.RuleEndpointTypeEventBus, m.endpoints[back.Spec.Target].Spec.RuleEndpointType)
	require.Equal(t, "offload/v1/edge-1/receipt", published(t, m, "edge-1"))
}

// published is the topic on which the router publishes a receipt for the node, by the consumer's own -replies.
func published(t *testing.T, m *manifests, node string) string {
	t.Helper()
	var replies string
	for _, arg := range m.deployments["offload-cloud"].Spec.Template.Spec.Containers[0].Args {
		if after, ok := strings.CutPrefix(arg, "-replies=http://cloudcore.kubeedge:9443/"); ok {
			replies = after
		}
	}
	request := strings.ReplaceAll(replies, "{node}", node) + "/" + node + "/receipt"
	parts := strings.SplitN(request, "/", 3) // node, namespace, path
	require.Equal(t, node, parts[0])
	back := m.rules["receipts"]
	require.Equal(t, back.Namespace, parts[1])
	rest, ok := strings.CutPrefix("/"+parts[2], back.Spec.SourceResource["path"])
	require.True(t, ok, request)
	return path.Join(back.Spec.TargetResource["topic"], rest)
}
