package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
)

// maxFileBytes bounds the configuration file. A larger file is probably another one, given
// by mistake.
const maxFileBytes = 1 << 20

// Load reads a configuration file of at most 1 MiB, with the environment of the process. If
// the file can be read but is not valid, the error is an [Errors].
func Load(file string) (*Config, error) {
	cfg, _, err := LoadFiles(file)
	return cfg, err
}

// LoadFiles does what [Load] does. It also returns the names of the files that it has read
// or tried to read, with an error too: one of these files may be the cause of the error.
func LoadFiles(file string) (cfg *Config, files []string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, []string{file}, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, []string{file}, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(data) > maxFileBytes {
		return nil, []string{file}, fmt.Errorf("reading the configuration: %s is larger than 1 MiB", file)
	}
	return parse(file, data, os.LookupEnv)
}

// Parse reads a configuration from memory. file is its name in messages; relative paths
// start at the folder of file. lookup returns the value of a variable, and whether it is
// set. The error is an [Errors].
func Parse(file string, data []byte, lookup func(string) (string, bool)) (*Config, error) {
	cfg, _, err := parse(file, data, lookup)
	return cfg, err
}

func parse(file string, data []byte, lookup func(string) (string, bool)) (*Config, []string, error) {
	src := newSource(file, data)
	if root := parseYAML(src, data); root != nil {
		cfg := new(Config)
		d := decoder{src: src, dir: filepath.Dir(file), lookup: lookup}
		d.decode(root, reflect.ValueOf(cfg).Elem())
		c := checker{src: src, dir: filepath.Dir(file), cfg: cfg}
		c.checkAll()
		cfg.Files = append([]string{file}, src.files...)
		if len(src.errs) == 0 {
			return cfg, cfg.Files, nil
		}
	}
	return nil, append([]string{file}, src.files...), src.sortedErrors()
}
