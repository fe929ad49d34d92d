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
	data, err := readConfiguration(file)
	if err != nil {
		return nil, []string{file}, err
	}
	return parse(file, data, os.LookupEnv)
}

// LoadOnly is [Load] for a program that reads only some keys of the configuration, such as
// "plans" or "admin.listen". It ignores the faults of all other values: a variable that only
// they use need not be set. What a fault leaves without a value is zero or has its default.
func LoadOnly(file string, keys ...string) (*Config, error) {
	data, err := readConfiguration(file)
	if err != nil {
		return nil, err
	}
	return parseOnly(file, data, os.LookupEnv, keys...)
}

func readConfiguration(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("reading the configuration: %s is larger than 1 MiB", file)
	}
	return data, nil
}

// Parse reads a configuration from memory. file is its name in messages; relative paths
// start at the folder of file. lookup returns the value of a variable, and whether it is
// set. The error is an [Errors].
func Parse(file string, data []byte, lookup func(string) (string, bool)) (*Config, error) {
	cfg, _, err := parse(file, data, lookup)
	return cfg, err
}

func parse(file string, data []byte, lookup func(string) (string, bool)) (*Config, []string, error) {
	cfg, src := decodeAndCheck(file, data, lookup)
	files := append([]string{file}, src.files...)
	if len(src.errs) > 0 {
		return nil, files, src.sortedErrors()
	}
	cfg.Files = files
	return cfg, files, nil
}

func parseOnly(file string, data []byte, lookup func(string) (string, bool), keys ...string) (*Config, error) {
	cfg, src := decodeAndCheck(file, data, lookup, keys...)
	if faults := src.errorsAbout(keys); len(faults) > 0 {
		return nil, faults
	}
	return cfg, nil
}

// decodeAndCheck returns what could be read of a configuration, and where its faults are. If
// it is not YAML, cfg is nil. only are the keys whose values will be read; none: all of them.
func decodeAndCheck(file string, data []byte, lookup func(string) (string, bool), only ...string) (cfg *Config, src *source) {
	src = newSource(file, data)
	root := parseYAML(src, data)
	if root == nil {
		return nil, src
	}
	cfg = new(Config)
	d := decoder{src: src, dir: filepath.Dir(file), lookup: lookup}
	d.decode(root, reflect.ValueOf(cfg).Elem())
	c := checker{src: src, dir: filepath.Dir(file), cfg: cfg, only: only}
	c.checkAll()
	return cfg, src
}
