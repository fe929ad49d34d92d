// Command kubernetes prints manifests, and checks them as a Kubernetes API server would: each object
// has only fields that its kind has, with the right types, and those that it must have. Its
// pods keep to the restricted Pod Security Standard. Each argument is a file, or a folder
// that it renders as "kubectl kustomize" does.
//
// It is a module of its own, so that the libraries of Kubernetes stay out of the gateway's go.mod.
// The tests of cmd/metergate/e2e/documents build and run it.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(paths []string, out io.Writer) error {
	schemas, err := loadSchemas()
	if err != nil {
		return err
	}
	var faults []error
	for _, path := range paths {
		text, err := render(path)
		if err != nil {
			return err
		}
		for reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
			document, err := reader.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if err := schemas.check(document); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", path, err))
			}
		}
		if _, err := fmt.Fprintf(out, "---\n%s", text); err != nil {
			return err
		}
	}
	return errors.Join(faults...)
}

// render returns the manifests in a file, or those that a folder with a kustomization.yaml makes.
func render(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return os.ReadFile(path)
	}
	objects, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), path)
	if err != nil {
		return nil, err
	}
	return objects.AsYaml()
}
