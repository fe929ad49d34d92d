// Command gotest runs `go test -json` with its arguments and prints what go test prints
// without -json. It fails if a test was skipped: the CI installs everything that the tests
// need, so a test that is skipped there is a test that is missing.
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
	// An interrupt also reaches go test, which then ends its tests. Stay alive to print its
	// last lines.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	os.Exit(run(os.Args[1:], os.Stdout))
}

// An event is a line of `go test -json`; see `go doc test2json`.
type event struct{ Action, Package, ImportPath, Test, Output string }

// A printer keeps the output of each test, and prints it only if the test fails or is
// skipped.
type printer struct {
	out     io.Writer
	kept    map[string]map[string][]byte // by package and test; "" is the package itself
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
	p := printer{out: out, kept: map[string]map[string][]byte{}}
	for lines := bufio.NewReader(events); ; {
		line, err := lines.ReadString('\n')
		var e event
		switch {
		case line == "":
		case json.Unmarshal([]byte(line), &e) == nil:
			p.handle(e)
		default:
			io.WriteString(out, line) // not JSON: from the go command itself
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	if len(p.skipped) > 0 {
		fmt.Fprintf(out, "FAIL: these tests were skipped, and no test may be:\n  %s\n", strings.Join(p.skipped, "\n  "))
	}
	if err != nil || len(p.skipped) > 0 {
		return 1
	}
	return 0
}

func (p *printer) handle(e event) {
	tests := p.kept[e.Package]
	if tests == nil {
		tests = map[string][]byte{}
		p.kept[e.Package] = tests
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
		// The package has ended. Tests that a panic or the timeout stopped have no end
		// of their own in the output.
		last := tests[""]
		delete(tests, "")
		for _, output := range tests {
			p.out.Write(output)
		}
		if e.Action != "fail" {
			last = lastLine(last)
		}
		p.out.Write(last)
		delete(p.kept, e.Package)
	}
}

// lastLine returns the line that names the package, such as `ok metergate/quota 1.2s`.
func lastLine(output []byte) []byte {
	return output[bytes.LastIndexByte(bytes.TrimSuffix(output, []byte("\n")), '\n')+1:]
}
