package documents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	strictjson "sigs.k8s.io/json"

	"metergate/cmd/metergate/billing/billingtest"
	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// Kubernetes accepts each object of deploy/kubernetes-bill.yaml, they fit to the gateways of deploy/kubernetes.yaml,
// and the command of the CronJob works.
func TestKubernetesBillManifest(t *testing.T) {
	var job batchv1.CronJob
	var service corev1.Service
	var policy networkingv1.NetworkPolicy
	objects := map[string]any{"batch/v1 CronJob": &job, "v1 Service": &service, "networking.k8s.io/v1 NetworkPolicy": &policy}
	for dec := yaml.NewDecoder(bytes.NewReader(testkit.ReadFile(t, "deploy/kubernetes-bill.yaml"))); ; {
		var object map[string]any
		if err := dec.Decode(&object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		kind := fmt.Sprint(object["apiVersion"], " ", object["kind"])
		text, err := json.Marshal(object)
		if err != nil || objects[kind] == nil {
			t.Fatalf("a %s, error %v", kind, err)
		}
		faults, err := strictjson.UnmarshalStrict(text, objects[kind])
		if err = errors.Join(append(faults, err)...); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		delete(objects, kind)
	}
	if len(objects) > 0 {
		t.Fatalf("these are missing: %v", objects)
	}
	m := loadManifest(t)
	pod := job.Spec.JobTemplate.Spec.Template
	gateways := m.gateways.Spec.Template
	if service.Spec.Selector[podLabel] != gateways.Labels[podLabel] || policy.Spec.PodSelector.MatchLabels[podLabel] != gateways.Labels[podLabel] ||
		policy.Spec.Ingress[0].From[0].PodSelector.MatchLabels[podLabel] != pod.Labels[podLabel] {
		t.Errorf("the gateways have %v, the job %v; the Service selects %v, the NetworkPolicy %v", gateways.Labels, pod.Labels, service.Spec.Selector, policy.Spec)
	}
	container := pod.Spec.Containers[0]
	if container.Image != gateways.Spec.Containers[0].Image || service.Spec.Ports[0].TargetPort.StrVal != "admin" {
		t.Errorf("image %s, port %v", container.Image, service.Spec.Ports[0])
	}
	if secret := container.Env[0].ValueFrom.SecretKeyRef; container.Env[0].Name != secret.Key || secret.Name != gateways.Spec.Containers[0].EnvFrom[0].SecretRef.Name {
		t.Errorf("the admin token is from %v", secret)
	}
	if !strings.Contains(strings.Join(container.Args, " "), "http://"+service.Name+":9090") {
		t.Errorf("args %q do not name the Service %s", container.Args, service.Name)
	}

	gateway := gatewaytest.StartWithBilling(t, "embedded:"+t.TempDir(), "http://127.0.0.1:1")
	receiver := billingtest.Start(t, "openmeter")
	for i, arg := range container.Args {
		switch {
		case strings.HasPrefix(arg, "https://openmeter."):
			container.Args[i] = receiver.URL
		case strings.HasPrefix(arg, "http://"+service.Name):
			container.Args[i] = gateway.Admin
		}
	}
	env := []string{"METERGATE_ADMIN_TOKEN=" + gatewaytest.AdminToken, "METERGATE_BILL_TOKEN=" + billingtest.Token}
	if code, output := gatewaytest.Run(t, env, container.Args...); code != 0 || output != "sent 0 events of 0 users: 0 requests, 0 units to openmeter\n" {
		t.Errorf("%q: status %d: %s", container.Args, code, output)
	}
}

// The commands of docs/billing.md are understood as they stand there, and the page names every flag.
func TestBillingPageCommandsWork(t *testing.T) {
	gateway := gatewaytest.StartWithBilling(t, "embedded:"+t.TempDir(), "http://127.0.0.1:1")
	p := newPastes(t)
	testkit.WriteFile(t, p.dir+"/customers.csv", codeBlocks(t, "docs/billing.md", "csv")[0])
	script := "set -e\nexport METERGATE_ADMIN_TOKEN=" + gatewaytest.AdminToken + "\n" +
		strings.ReplaceAll(strings.Join(codeBlocks(t, "docs/billing.md", "sh"), ""), "-dry-run", "-dry-run -admin "+gateway.Admin)
	out, state := p.run(script)
	if runs := strings.Count(out, "would send 0 events of 0 users"); !state.Success() || runs < 6 {
		t.Errorf("%v, %d runs:\n%s", state, runs, out)
	}
	_, help := gatewaytest.Run(t, nil, "bill", "-h")
	page := markdownPages(t)["docs/billing.md"].text
	for _, m := range regexp.MustCompile(`(?m)^  (-[a-z-]+)`).FindAllStringSubmatch(help, -1) {
		if !strings.Contains(page, "| `"+m[1]+"` |") {
			t.Errorf("docs/billing.md has no row for %s", m[1])
		}
	}
}
