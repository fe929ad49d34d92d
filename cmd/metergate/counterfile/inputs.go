package counterfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// manifestName is the file in which an export to S3 lists its data files.
const manifestName = "manifest-files.json"

// An input is one file to read.
type input struct {
	name     string
	stdin    bool
	items    int    // that the manifest says it has; -1: unknown
	manifest string // that lists the file; empty: none
}

func (in input) open(stdin io.Reader) (io.ReadCloser, error) {
	if in.stdin {
		return io.NopCloser(stdin), nil
	}
	return os.Open(in.name)
}

// findInputs returns the files to read, those of folders and exports included.
func findInputs(names []string, folders bool) (inputs []input, err error) {
	for _, name := range names {
		if name == "-" {
			inputs = append(inputs, input{name: "stdin", stdin: true, items: -1})
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		var found []input
		switch {
		case info.IsDir() && !folders:
			return nil, fmt.Errorf("%s is a folder; name the files", name)
		case info.IsDir():
			found, err = folderInputs(name)
		case folders && filepath.Base(name) == manifestName:
			found, err = exportInputs(name)
		default:
			found = []input{{name: name, items: -1}}
		}
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, found...)
	}
	type source struct {
		file  string
		stdin bool
	}
	seen := map[source]bool{}
	for _, in := range inputs {
		from := source{filepath.Clean(in.name), in.stdin}
		if seen[from] {
			return nil, fmt.Errorf("%s is named twice", in.name)
		}
		seen[from] = true
	}
	return inputs, nil
}

// folderInputs returns the files of a folder and of those below it: what the manifest of an export
// lists or, without a manifest, all JSON files.
func folderInputs(folder string) ([]input, error) {
	var manifests, incomplete []string
	var files []input
	err := filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		switch base := filepath.Base(name); {
		case err != nil:
			return err
		case d.IsDir():
		case base == manifestName:
			manifests = append(manifests, name)
		case base == "manifest-summary.json":
			incomplete = append(incomplete, name)
		case isDataName(base):
			files = append(files, input{name: name, items: -1})
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(manifests) > 1:
		return nil, fmt.Errorf("%s has more than one export: %s; name the one to read", folder, strings.Join(manifests, ", "))
	case len(manifests) == 1:
		return exportInputs(manifests[0])
	case len(incomplete) > 0:
		return nil, fmt.Errorf("%s has no %s beside %s; copy the whole export", folder, manifestName, incomplete[0])
	case len(files) == 0:
		return nil, fmt.Errorf("%s has no %s and no file whose name ends in .json or .json.gz", folder, manifestName)
	}
	return files, nil
}

// isDataName reports whether a file of a folder is data. A file in Amazon Ion is: reading it says
// what to do.
func isDataName(base string) bool {
	base = strings.TrimSuffix(strings.ToLower(base), ".gz")
	return !strings.HasPrefix(base, ".") && slices.Contains([]string{".json", ".jsonl", ".ndjson", ".ion"}, path.Ext(base))
}

// exportInputs returns the files that a manifest lists. It has a line for each,
// with its key in S3 and how many items it has.
func exportInputs(manifest string) (inputs []input, err error) {
	text, err := os.ReadFile(manifest)
	if err != nil {
		return nil, err
	}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var entry struct {
			ItemCount     *int   `json:"itemCount"`
			DataFileS3Key string `json:"dataFileS3Key"`
		}
		if err := json.Unmarshal(line, &entry); err != nil || entry.DataFileS3Key == "" {
			return nil, fmt.Errorf(`%s:%d: must be a line like {"itemCount": 8, "dataFileS3Key": "..."}`, manifest, number)
		}
		name, err := dataFile(manifest, entry.DataFileS3Key)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", manifest, number, err)
		}
		items := -1
		if entry.ItemCount != nil {
			items = *entry.ItemCount
		}
		inputs = append(inputs, input{name: name, items: items, manifest: manifest})
	}
	if len(inputs) == 0 {
		return nil, fmt.Errorf("%s lists no files", manifest)
	}
	return inputs, nil
}

// dataFile finds the copy of a data file by its key in S3. It lies in a folder beside the manifest, or
// beside the folder of the manifest, as in S3; or beside the manifest itself. It may be unpacked.
func dataFile(manifest, key string) (string, error) {
	folder, base := filepath.Dir(manifest), path.Base(key)
	for _, base := range []string{base, strings.TrimSuffix(base, ".gz")} {
		for _, name := range []string{filepath.Join(folder, "data", base), filepath.Join(folder, "..", "data", base), filepath.Join(folder, base)} {
			info, err := os.Stat(name)
			switch {
			case err == nil && info.Mode().IsRegular():
				return name, nil
			case err != nil && !errors.Is(err, fs.ErrNotExist):
				return "", err
			}
		}
	}
	return "", fmt.Errorf("there is no %s in %s; copy the whole export", base, filepath.Join(folder, "data"))
}
