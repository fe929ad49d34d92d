package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/openapi/openapitest"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	strictjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// A kind says how objects of one kind are checked.
type kind struct {
	object func() any // for strict decoding
	// The schema that an API server publishes, if client-go has it. The kinds without one
	// have no field that is required.
	document, schema string
}

var kinds = map[string]kind{
	"v1 ConfigMap":                            {func() any { return new(corev1.ConfigMap) }, "api/v1", "io.k8s.api.core.v1.ConfigMap"},
	"v1 Namespace":                            {func() any { return new(corev1.Namespace) }, "api/v1", "io.k8s.api.core.v1.Namespace"},
	"v1 Service":                              {func() any { return new(corev1.Service) }, "api/v1", "io.k8s.api.core.v1.Service"},
	"apps/v1 StatefulSet":                     {func() any { return new(appsv1.StatefulSet) }, "apis/apps/v1", "io.k8s.api.apps.v1.StatefulSet"},
	"batch/v1 CronJob":                        {func() any { return new(batchv1.CronJob) }, "apis/batch/v1", "io.k8s.api.batch.v1.CronJob"},
	"policy/v1 PodDisruptionBudget":           {object: func() any { return new(policyv1.PodDisruptionBudget) }},
	"networking.k8s.io/v1 NetworkPolicy":      {object: func() any { return new(networkingv1.NetworkPolicy) }},
	"monitoring.coreos.com/v1 PodMonitor":     {object: func() any { return new(monitoringv1.PodMonitor) }},
	"monitoring.coreos.com/v1 ServiceMonitor": {object: func() any { return new(monitoringv1.ServiceMonitor) }},
}

// schemas are the OpenAPI documents of an API server, by their path.
type schemas struct {
	published map[string]openapi.GroupVersion
	loaded    map[string]*openapi3.T
}

func loadSchemas() (*schemas, error) {
	published, err := openapitest.NewEmbeddedFileClient().Paths()
	return &schemas{published, map[string]*openapi3.T{}}, err
}

// check checks one object, written as YAML.
func (s *schemas) check(document []byte) error {
	var about metav1.PartialObjectMetadata
	if err := yaml.Unmarshal(document, &about); err != nil {
		return err
	}
	name := about.APIVersion + " " + about.Kind
	k, ok := kinds[name]
	if !ok {
		return fmt.Errorf("%s %s: add this kind to .ci/kubernetes/check.go", name, about.Name)
	}
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return fmt.Errorf("%s %s: %w", about.Kind, about.Name, err)
	}
	object := k.object()
	faults, err := strictjson.UnmarshalStrict(text, object)
	faults = append(faults, err, s.checkSchema(k, text), checkPods(object))
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("%s %s: %w", about.Kind, about.Name, err)
	}
	return nil
}

func (s *schemas) checkSchema(k kind, object []byte) error {
	if k.schema == "" {
		return nil
	}
	if s.loaded[k.document] == nil {
		published := s.published[k.document]
		if published == nil {
			return fmt.Errorf("client-go has no schemas for %s", k.document)
		}
		text, err := published.Schema("application/json")
		if err != nil {
			return err
		}
		if s.loaded[k.document], err = openapi3.NewLoader().LoadFromData(text); err != nil {
			return err
		}
	}
	schema := s.loaded[k.document].Components.Schemas[k.schema]
	if schema == nil {
		return fmt.Errorf("client-go has no schema %s", k.schema)
	}
	var value any
	if err := json.Unmarshal(object, &value); err != nil {
		return err
	}
	return schema.Value.VisitJSON(value, openapi3.MultiErrors())
}

// checkPods checks the pods of an object against the restricted Pod Security Standard, with the
// code of the API server.
func checkPods(object any) error {
	var template corev1.PodTemplateSpec
	switch object := object.(type) {
	case *appsv1.StatefulSet:
		template = object.Spec.Template
	case *batchv1.CronJob:
		template = object.Spec.JobTemplate.Spec.Template
	default:
		return nil
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	var faults []error
	for _, result := range evaluator.EvaluatePod(restricted, &template.ObjectMeta, &template.Spec) {
		if !result.Allowed {
			faults = append(faults, errors.New("the restricted Pod Security Standard: "+strings.TrimSuffix(result.ForbiddenReason+": "+result.ForbiddenDetail, ": ")))
		}
	}
	return errors.Join(faults...)
}
