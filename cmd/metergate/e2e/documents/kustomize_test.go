package documents

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"metergate/cmd/metergate/app"
	"metergate/cmd/metergate/gatewaytest"
	"metergate/config"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

//go:generate go test -run ^TestPlainManifestsAreCurrent$ -update .

var update = flag.Bool("update", false, "rewrite the plain manifests in deploy")

const (
	baseFolder    = "deploy/kustomize/base"
	exampleFolder = "deploy/kustomize/overlays/example"
	components    = "deploy/kustomize/components"
)

// buildChecker builds the program of .ci/kubernetes, which renders and checks manifests.
var buildChecker = sync.OnceValues(func() (program string, err error) {
	program = filepath.Join(filepath.Dir(gatewaytest.Program()), "kubernetes") // which goes with that folder
	out, err := exec.Command("go", "build", "-C", filepath.Join(repositoryRoot, ".ci/kubernetes"), "-o", program, ".").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("building .ci/kubernetes: %w\n%s", err, out)
	}
	return program, err
})

// checkManifests renders folders and files, and checks them as the API server does. It returns the
// objects as YAML, or the faults.
func checkManifests(t *testing.T, paths ...string) ([]byte, error) {
	t.Helper()
	testkit.DependOn(t, "deploy", ".ci/kubernetes")
	program, err := buildChecker()
	if err != nil {
		if os.Getenv(redistest.RequireEnv) != "" {
			t.Fatal(err)
		}
		t.Skipf("run .ci/install for what checks the manifests: %v", err)
	}
	var out, faults bytes.Buffer
	cmd := exec.Command(program, paths...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = repositoryRoot, &out, &faults
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, &faults)
	}
	return out.Bytes(), nil
}

// decodeObjects returns the objects of a manifest by their kind and name.
func decodeObjects(t *testing.T, text []byte) map[string]map[string]any {
	t.Helper()
	objects := map[string]map[string]any{}
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var object map[string]any
		if err := dec.Decode(&object); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint(object["kind"], " ", object["metadata"].(map[string]any)["name"])
		if objects[name] != nil {
			t.Errorf("%s is there twice", name)
		}
		objects[name] = object
	}
}

// plainManifest returns what a plain manifest must say: its own comment at the top, then the objects
// of the files.
func plainManifest(t *testing.T, plain, before string, files ...string) string {
	t.Helper()
	top, _, found := strings.Cut(string(testkit.ReadFile(t, plain)), "\napiVersion:")
	if !found {
		t.Fatalf("%s has no object", plain)
	}
	var objects []string
	if before != "" {
		objects = append(objects, before)
	}
	for _, file := range files {
		objects = append(objects, string(testkit.ReadFile(t, file)))
	}
	return top + "\n" + strings.Join(objects, "---\n")
}

// The plain manifests are made of the files of the kustomize base and its components.
func TestPlainManifestsAreCurrent(t *testing.T) {
	settings := "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: metergate\n  labels: { app.kubernetes.io/name: metergate }\ndata:\n  gateway.yaml: |\n"
	for line := range strings.Lines(string(testkit.ReadFile(t, baseFolder+"/gateway.yaml"))) {
		settings += "    " + line
	}
	for plain, want := range map[string]string{
		manifestFile:                  plainManifest(t, manifestFile, settings, baseFolder+"/gateways.yaml", baseFolder+"/services.yaml", baseFolder+"/policies.yaml"),
		"deploy/kubernetes-bill.yaml": plainManifest(t, "deploy/kubernetes-bill.yaml", "", components+"/bill/bill.yaml"),
	} {
		if *update {
			testkit.WriteFile(t, filepath.Join(repositoryRoot, plain), want)
		} else if diff := cmp.Diff(want, string(testkit.ReadFile(t, plain))); diff != "" {
			t.Errorf("%s is not what deploy/kustomize says: change it there, run go generate ./cmd/metergate/e2e/documents and commit the result\n%s", plain, diff)
		}
	}
}

// "kubectl apply -k" of the base and "kubectl apply -f" of the plain manifest make the same objects.
func TestKustomizeBaseEqualsPlainManifest(t *testing.T) {
	for folder, plain := range map[string]string{baseFolder: manifestFile, components + "/bill": "deploy/kubernetes-bill.yaml"} {
		rendered, err := checkManifests(t, folder)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(decodeObjects(t, testkit.ReadFile(t, plain)), decodeObjects(t, rendered)); diff != "" {
			t.Errorf("%s and %s differ:\n%s", plain, folder, diff)
		}
	}
}

// An API server accepts all manifests, also in a namespace that enforces the restricted Pod Security
// Standard.
func TestKubernetesAcceptsManifests(t *testing.T) {
	paths := []string{manifestFile, "deploy/kubernetes-bill.yaml", baseFolder, exampleFolder}
	entries, err := os.ReadDir(filepath.Join(repositoryRoot, components))
	if err != nil || len(entries) < 3 {
		t.Fatal(err, len(entries))
	}
	for _, e := range entries {
		paths = append(paths, components+"/"+e.Name())
	}
	if _, err := checkManifests(t, paths...); err != nil {
		t.Error(err)
	}
}

// The check of the manifests is one: it finds faults, and says where they are.
func TestManifestCheckFindsFaults(t *testing.T) {
	text := string(testkit.ReadFile(t, manifestFile)) + "---\n" + string(testkit.ReadFile(t, components+"/servicemonitor/servicemonitor.yaml"))
	dir, faults := t.TempDir(), map[string]string{} // by file: the fault that it has
	for i, c := range []struct{ from, to, want string }{
		{"  replicas: 2", "  replica: 2", `StatefulSet metergate: unknown field "spec.replica"`},
		{"  replicas: 2", "  replicas: two", "StatefulSet metergate: json: cannot unmarshal string into Go struct field StatefulSetSpec.spec.replicas of type int32"},
		{"        - name: metergate\n          image", "        - image", `property "name" is missing`},
		{"{ name: http, containerPort: 8080 }", "{ name: http }", `property "containerPort" is missing`},
		{"maxUnavailable: 1", "maxUnavailible: 1", `PodDisruptionBudget metergate: unknown field "spec.maxUnavailible"`},
		{"podSelector:\n    match", "podSelector:\n    mach", `NetworkPolicy metergate: unknown field "spec.podSelector.machLabels"`},
		{"    - port: admin\n      path", "    - prot: admin\n      path", `ServiceMonitor metergate: unknown field "spec.endpoints[0].prot"`},
		{"drop: [ALL]", "add: [NET_RAW]", "the restricted Pod Security Standard: unrestricted capabilities"},
		{"runAsNonRoot: true", "runAsNonRoot: false", "the restricted Pod Security Standard: runAsNonRoot != true"},
		{"seccompProfile: { type: RuntimeDefault }", "fsGroupChangePolicy: Always", "the restricted Pod Security Standard: seccompProfile"},
		{"kind: PodDisruptionBudget", "kind: PodDisruptionBudge", "add this kind"},
	} {
		changed := strings.Replace(text, c.from, c.to, 1)
		if changed == text {
			t.Errorf("the manifests have no %q", c.from)
			continue
		}
		file := filepath.Join(dir, fmt.Sprint(i, ".yaml"))
		testkit.WriteFile(t, file, changed)
		faults[file] = c.want
	}
	_, err := checkManifests(t, slices.Collect(maps.Keys(faults))...)
	if err == nil {
		t.Fatal("it finds none")
	}
	for file, want := range faults {
		_, found, _ := strings.Cut(err.Error(), file+": ")
		if found, _, _ = strings.Cut(found, dir); !strings.Contains(found, want) {
			t.Errorf("found %q, want %q in it", found, want)
		}
	}
}

// The example overlay sets what it says it sets, and its gateways start with its gateway.yaml.
func TestExampleOverlaySetsWhatIsYours(t *testing.T) {
	rendered, err := checkManifests(t, exampleFolder)
	if err != nil {
		t.Fatal(err)
	}
	objects := decodeObjects(t, rendered)
	for _, name := range []string{"Namespace metergate", "StatefulSet metergate", "CronJob metergate-bill", "NetworkPolicy metergate-bill"} {
		if objects[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	for name, object := range objects {
		if group, _, _ := strings.Cut(object["apiVersion"].(string), "/"); group == "monitoring.coreos.com" {
			t.Errorf("a cluster without the Prometheus Operator refuses %s", name)
		}
		if namespace := object["metadata"].(map[string]any)["namespace"]; namespace != "metergate" && name != "Namespace metergate" {
			t.Errorf("%s is in the namespace %v", name, namespace)
		}
	}
	if n := strings.Count(string(rendered), "image: registry.example.com/metergate:v1.2.3\n"); n != 2 || strings.Contains(string(rendered), "image: metergate:") {
		t.Errorf("%d containers have the overlay's image", n)
	}
	if !strings.Contains(string(rendered), "\n  replicas: 3\n") {
		t.Error("there are not 3 gateways")
	}
	settings := objects["ConfigMap metergate"]["data"].(map[string]any)["gateway.yaml"].(string)
	lookup := func(name string) (string, bool) {
		return map[string]string{"JWT_SECRET": testkit.Secret, "METERGATE_ADMIN_TOKEN": gatewaytest.AdminToken, "REDIS_URL": "rediss://u:p@redis.example.com:6379"}[name], true
	}
	cfg, err := config.Parse("gateway.yaml", []byte(settings), lookup)
	if err == nil {
		err = app.Check(cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	// What the component "bill" needs.
	if cfg.Billing == nil || !slices.Contains(cfg.Admin.Hosts, "metergate-admin") {
		t.Errorf("billing %+v, hosts %q", cfg.Billing, cfg.Admin.Hosts)
	}
}

// The ServiceMonitor finds its Service, which has the admin port of every pod, and the job is what
// the alerts expect.
func TestServiceMonitorFindsGateways(t *testing.T) {
	rendered, err := checkManifests(t, components+"/servicemonitor")
	if err != nil {
		t.Fatal(err)
	}
	objects := decodeObjects(t, rendered)
	text, err := json.Marshal([]any{objects["ServiceMonitor metergate"], objects["Service metergate-metrics"]})
	if err != nil {
		t.Fatal(err)
	}
	var both []struct {
		Metadata struct{ Labels map[string]string }
		Spec     struct {
			JobLabel  string
			Selector  json.RawMessage
			Endpoints []struct{ Port, Path string }
			Ports     []struct{ Name, TargetPort string }
		}
	}
	var monitored struct{ MatchLabels map[string]string }
	var pods map[string]string
	err = errors.Join(json.Unmarshal(text, &both), json.Unmarshal(both[0].Spec.Selector, &monitored), json.Unmarshal(both[1].Spec.Selector, &pods))
	if err != nil {
		t.Fatal(err)
	}
	monitor, service := both[0].Spec, both[1]
	template := loadManifest(t).gateways.Spec.Template
	if !maps.Equal(monitored.MatchLabels, service.Metadata.Labels) || !maps.Equal(pods, template.Labels) {
		t.Errorf("it selects %v of %v, which selects %v of %v", monitored.MatchLabels, service.Metadata.Labels, pods, template.Labels)
	}
	if service.Metadata.Labels[monitor.JobLabel] != "metergate" {
		t.Errorf("the job is named by %q of %v", monitor.JobLabel, service.Metadata.Labels)
	}
	if e, p := monitor.Endpoints[0], service.Spec.Ports[0]; e.Port != p.Name || e.Path != "/metrics" || p.TargetPort != "admin" {
		t.Errorf("the endpoint is %+v, the port %+v", e, p)
	}
}
