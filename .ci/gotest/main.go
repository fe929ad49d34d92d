// Command gotest runs `go test -json` with its arguments, prints what a plain go
// test would, and fails if a test was skipped: where everything that the tests
// need is installed, a skip is a hole.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
)

func main() {
	// An interrupt reaches go test too, which ends its tests; its last lines
	// are still to be printed.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	os.Exit(run(os.Args[1:], os.Stdout))
}

// An event is what `go doc test2json` describes.
type event struct{ Action, Package, ImportPath, Test, Output string }

// A printer holds back the output of each test until it is known to have failed
// or to have been skipped.
type printer struct {
	out     io.Writer
	held    map[string]map[string][]byte // by package and test; "" is the package itself
	skipped []string
}

func run(args []string, out io.Writer) int {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		return 1
	}
	p := printer{out: out, held: map[string]map[string][]byte{}}
	for lines := bufio.NewReader(events); ; {
		line, err := lines.ReadString('\n')
		var e event
		switch {
		case line == "":
		case json.Unmarshal([]byte(line), &e) == nil:
			p.handle(e)
		default:
			io.WriteString(out, line) // go test's own words
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	if len(p.skipped) > 0 {
		fmt.Fprintf(out, "FAIL: skipped, and no test may be:\n  %s\n", strings.Join(p.skipped, "\n  "))
	}
	if err != nil || len(p.skipped) > 0 {
		return 1
	}
	return 0
}

func (p *printer) handle(e event) {
	tests := p.held[e.Package]
	if tests == nil {
		tests = map[string][]byte{}
		p.held[e.Package] = tests
	}
	switch e.Action {
	case "build-output":
		io.WriteString(p.out, e.Output)
	case "output":
		if !strings.HasPrefix(e.Output, "=== ") {
			tests[e.Test] = append(tests[e.Test], e.Output...)
		}
	case "pass", "fail", "skip":
		if e.Test != "" {
			if e.Action == "skip" {
				p.skipped = append(p.skipped, e.Package+" "+e.Test)
			}
			if e.Action != "pass" {
				p.out.Write(tests[e.Test])
			}
			delete(tests, e.Test)
			return
		}
		// The package has ended, and with it the tests that a panic or the
		// timeout cut off: those have no end of their own.
		last := tests[""]
		delete(tests, "")
		for _, output := range tests {
			p.out.Write(output)
		}
		if e.Action != "fail" {
			last = lastLine(last)
		}
		p.out.Write(last)
		delete(p.held, e.Package)
	}
}

// lastLine is the one that names the package: `ok metergate/quota 1.2s`.
func lastLine(output []byte) []byte {
	return output[bytes.LastIndexByte(bytes.TrimSuffix(output, []byte("\n")), '\n')+1:]
}
