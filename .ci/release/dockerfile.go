package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A dockerfile is what the last stage of the Dockerfile says about the image. So the image built
// here and the one that docker build makes have one definition.
type dockerfile struct {
	config v1.Config
	copies []copied
}

// A copied is a COPY: a file or folder of the stage before, by its path below /out.
type copied struct {
	from, to string
	uid      int // also the group
}

var (
	copyLine  = regexp.MustCompile(`^--from=build (?:--chown=(\d+):(\d+) )?/out(/\S*) (/\S*)$`)
	checkLine = regexp.MustCompile(`^((?:--[a-z-]+=\S+ )*)CMD (\[.*\])$`)
)

func (r *release) readDockerfile() (*dockerfile, error) {
	text, err := os.ReadFile(filepath.Join(r.root, "Dockerfile"))
	if err != nil {
		return nil, err
	}
	return parseDockerfile(string(text))
}

// parseDockerfile reads the last stage. It refuses each instruction that it does not know, so that
// nothing in the Dockerfile is missing here.
func parseDockerfile(text string) (*dockerfile, error) {
	d := &dockerfile{config: v1.Config{ExposedPorts: map[string]struct{}{}, Volumes: map[string]struct{}{}}}
	last := strings.LastIndex(text, "\nFROM ")
	if last < 0 {
		return nil, errors.New("Dockerfile: it has no second FROM")
	}
	for _, line := range strings.Split(text[last+1:], "\n")[1:] {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, args, _ := strings.Cut(line, " ")
		if err := d.add(name, strings.TrimSpace(args)); err != nil {
			return nil, fmt.Errorf("Dockerfile: %q: %w", line, err)
		}
	}
	return d, nil
}

func (d *dockerfile) add(name, args string) error {
	switch name {
	case "COPY":
		m := copyLine.FindStringSubmatch(args)
		if m == nil || m[1] != m[2] {
			return errors.New("only COPY --from=build [--chown=N:N] /out/... /... is known, with a user and group of the same number")
		}
		c := copied{from: m[3], to: m[4]}
		if m[1] != "" {
			if _, err := fmt.Sscan(m[1], &c.uid); err != nil {
				return err
			}
		}
		d.copies = append(d.copies, c)
	case "ENV":
		if strings.ContainsAny(args, " \"'$") || !strings.Contains(args, "=") {
			return errors.New("only ENV NAME=value is known")
		}
		d.config.Env = append(d.config.Env, args)
	case "VOLUME":
		d.config.Volumes[args] = struct{}{}
	case "USER":
		d.config.User = args
	case "EXPOSE":
		d.config.ExposedPorts[args+"/tcp"] = struct{}{}
	case "ENTRYPOINT":
		return json.Unmarshal([]byte(args), &d.config.Entrypoint)
	case "CMD":
		return json.Unmarshal([]byte(args), &d.config.Cmd)
	case "HEALTHCHECK":
		return d.healthCheck(args)
	default:
		return errors.New("this instruction is not known")
	}
	return nil
}

func (d *dockerfile) healthCheck(args string) error {
	m := checkLine.FindStringSubmatch(args)
	if m == nil {
		return errors.New("only HEALTHCHECK --flag=... CMD [...] is known")
	}
	check := &v1.HealthConfig{Test: []string{"CMD"}}
	for flag := range strings.FieldsSeq(m[1]) {
		name, value, _ := strings.Cut(flag, "=")
		into := map[string]*time.Duration{"--interval": &check.Interval, "--timeout": &check.Timeout, "--start-period": &check.StartPeriod}[name]
		if into == nil {
			return fmt.Errorf("the flag %s is not known", name)
		}
		parsed, err := time.ParseDuration(value)
		if err != nil {
			return err
		}
		*into = parsed
	}
	var command []string
	if err := json.Unmarshal([]byte(m[2]), &command); err != nil {
		return err
	}
	check.Test = append(check.Test, command...)
	d.config.Healthcheck = check
	return nil
}

// source returns where a COPY finds its file, below the folder that stands for /out.
func (c copied) source(root string) string { return filepath.Join(root, filepath.FromSlash(c.from)) }
