package documents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	strictjson "sigs.k8s.io/json"

	"metergate/cmd/metergate/app"
	"metergate/cmd/metergate/gatewaytest"
	"metergate/config"
	"metergate/quota/testkit"
)

const manifestFile = "deploy/kubernetes.yaml"

// A manifest has the objects of deploy/kubernetes.yaml, as the API server reads them.
type manifest struct {
	*testing.T
	config   corev1.ConfigMap
	gateways appsv1.StatefulSet
	services []*corev1.Service
	budget   policyv1.PodDisruptionBudget
	policy   networkingv1.NetworkPolicy
}

// loadManifest decodes every object strictly: an unknown field or a wrong type is an error, as
// it is for "kubectl apply".
func loadManifest(t *testing.T) *manifest {
	t.Helper()
	m := &manifest{T: t}
	for dec := yaml.NewDecoder(bytes.NewReader(testkit.ReadFile(t, manifestFile))); ; {
		var object map[string]any
		if err := dec.Decode(&object); errors.Is(err, io.EOF) {
			return m
		} else if err != nil {
			t.Fatal(err)
		}
		var into any
		switch kind := fmt.Sprint(object["apiVersion"], " ", object["kind"]); kind {
		case "v1 ConfigMap":
			into = &m.config
		case "apps/v1 StatefulSet":
			into = &m.gateways
		case "v1 Service":
			m.services = append(m.services, new(corev1.Service))
			into = m.services[len(m.services)-1]
		case "policy/v1 PodDisruptionBudget":
			into = &m.budget
		case "networking.k8s.io/v1 NetworkPolicy":
			into = &m.policy
		default:
			t.Fatalf("this test does not know a %s", kind)
		}
		text, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		faults, err := strictjson.UnmarshalStrict(text, into)
		if err = errors.Join(append(faults, err)...); err != nil {
			t.Errorf("%s: %v", object["kind"], err)
		}
	}
}

// podLabel is the label by which everything finds the pods.
const podLabel = "app.kubernetes.io/name"

// Kubernetes accepts each object of the manifest, and they fit together.
func TestKubernetesManifestIsValid(t *testing.T) {
	m := loadManifest(t)
	pod := m.gateways.Spec.Template
	if len(pod.Spec.Containers) != 1 || pod.Labels[podLabel] == "" {
		t.Fatalf("%d containers, labels %v", len(pod.Spec.Containers), pod.Labels)
	}
	container := pod.Spec.Containers[0]
	ports := map[string]int32{}
	for _, p := range container.Ports {
		ports[p.Name] = p.ContainerPort
	}

	selectors := map[string]map[string]string{
		"StatefulSet":         m.gateways.Spec.Selector.MatchLabels,
		"PodDisruptionBudget": m.budget.Spec.Selector.MatchLabels,
		"NetworkPolicy":       m.policy.Spec.PodSelector.MatchLabels,
		"topology":            pod.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels,
	}
	named := []string{container.StartupProbe.HTTPGet.Port.StrVal, container.LivenessProbe.HTTPGet.Port.StrVal, container.ReadinessProbe.HTTPGet.Port.StrVal}
	governing := false
	for _, s := range m.services {
		selectors["Service "+s.Name] = s.Spec.Selector
		governing = governing || s.Name == m.gateways.Spec.ServiceName && s.Spec.ClusterIP == corev1.ClusterIPNone
		for _, p := range s.Spec.Ports {
			named = append(named, p.TargetPort.StrVal)
		}
	}
	for _, rule := range m.policy.Spec.Ingress {
		for _, p := range rule.Ports {
			named = append(named, p.Port.StrVal)
		}
	}
	for what, selector := range selectors {
		if selector[podLabel] != pod.Labels[podLabel] || len(selector) != 1 {
			t.Errorf("%s selects %v, and the pods have %v", what, selector, pod.Labels)
		}
	}
	for _, name := range named {
		if ports[name] == 0 {
			t.Errorf("the container has no port %q", name)
		}
	}
	if !governing {
		t.Errorf("there is no headless Service %q", m.gateways.Spec.ServiceName)
	}
	m.checkVolumes(pod.Spec, container)
	m.checkConfiguration(pod, container, ports)
}

// checkVolumes checks that what the container mounts is there.
func (m *manifest) checkVolumes(pod corev1.PodSpec, container corev1.Container) {
	m.Helper()
	var volumes []string
	for _, v := range pod.Volumes {
		volumes = append(volumes, v.Name)
		if v.ConfigMap == nil || v.ConfigMap.Name != m.config.Name {
			m.Errorf("the volume %s is not the ConfigMap", v.Name)
		}
	}
	for _, claim := range m.gateways.Spec.VolumeClaimTemplates {
		volumes = append(volumes, claim.Name)
		if claim.Spec.Resources.Requests.Storage().Value() < 1<<20 {
			m.Errorf("the volume %s has no size", claim.Name)
		}
	}
	for _, mount := range container.VolumeMounts {
		if !slices.Contains(volumes, mount.Name) {
			m.Errorf("there is no volume %s", mount.Name)
		}
	}
}

// checkConfiguration checks that the gateways start with the configuration in the ConfigMap,
// on the ports of the container, with the variables of the Secret, and have time to stop.
func (m *manifest) checkConfiguration(pod corev1.PodTemplateSpec, container corev1.Container, ports map[string]int32) {
	m.Helper()
	file := container.Args[len(container.Args)-1]
	name, ok := strings.CutPrefix(file, container.VolumeMounts[0].MountPath+"/")
	text := m.config.Data[name]
	if !ok || text == "" {
		m.Fatalf("there is no %s; the ConfigMap has %v", file, slices.Collect(maps.Keys(m.config.Data)))
	}
	secret := map[string]string{}
	for _, v := range regexp.MustCompile(`--from-literal=(\w+)=(\S+)`).FindAllSubmatch(testkit.ReadFile(m.T, manifestFile), -1) {
		secret[string(v[1])] = strings.Replace(string(v[2]), "$(openssl", gatewaytest.AdminToken, 1)
	}
	cfg, err := config.Parse(name, []byte(text), func(name string) (string, bool) { v, ok := secret[name]; return v, ok })
	if err == nil {
		err = app.Check(cfg)
	}
	if err != nil {
		m.Fatal(err)
	}
	if want := fmt.Sprintf(":%d :%d", ports["http"], ports["admin"]); cfg.Listen+" "+cfg.Admin.Listen != want {
		m.Errorf("the gateway listens on %s and %s, and the container's ports are %s", cfg.Listen, cfg.Admin.Listen, want)
	}
	if got := pod.Annotations["prometheus.io/port"]; got != fmt.Sprint(ports["admin"]) {
		m.Errorf("Prometheus scrapes port %q, and the admin listener has %d", got, ports["admin"])
	}
	if cfg.ShutdownDelay < 5*time.Second {
		m.Errorf("shutdown_delay is %v; nodes need some seconds until they send nothing more to the pod", cfg.ShutdownDelay)
	}
	stop := cfg.ShutdownDelay + cfg.ShutdownTimeout
	if grace := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second; grace <= stop {
		m.Errorf("the gateway may take %v to stop, and Kubernetes kills it after %v", stop, grace)
	}
}

// The PodMonitor finds the pods and the port of the manifest.
func TestPodMonitorFindsGateways(t *testing.T) {
	var monitor struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct {
			Name   string
			Labels map[string]string
		}
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			PodMetricsEndpoints []struct{ Port, Path, Interval string } `yaml:"podMetricsEndpoints"`
		}
	}
	dec := yaml.NewDecoder(bytes.NewReader(testkit.ReadFile(t, components+"/podmonitor/podmonitor.yaml")))
	dec.KnownFields(true)
	if err := dec.Decode(&monitor); err != nil {
		t.Fatal(err)
	}
	pod := loadManifest(t).gateways.Spec.Template
	if !maps.Equal(monitor.Spec.Selector.MatchLabels, pod.Labels) {
		t.Errorf("it selects %v, and the pods have %v", monitor.Spec.Selector.MatchLabels, pod.Labels)
	}
	for _, e := range monitor.Spec.PodMetricsEndpoints {
		if !slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == e.Port }) || e.Path != "/metrics" {
			t.Errorf("the pods have no metrics at %+v", e)
		}
	}
	// The operator names the job NAMESPACE/NAME, which the alerts expect.
	if len(monitor.Spec.PodMetricsEndpoints) != 1 || monitor.Metadata.Name != "metergate" {
		t.Errorf("%+v", monitor)
	}
}
