package main

import (
	"os"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for _, test := range []struct {
		name, body string // of one test file
		status     int
		want       []string // in the output
		not        string
	}{
		{"pass", `func TestA(t *testing.T) { t.Log("quiet") }`, 0, []string{"ok  \tm\t"}, "quiet"},
		{"fail", `func TestA(t *testing.T) { t.Error("why") }`, 1, []string{"why", "--- FAIL: TestA", "FAIL\tm\t"}, "skipped"},
		{"fail below", `func TestA(t *testing.T) { t.Run("b", func(t *testing.T) { t.Error("why") }) }`, 1,
			[]string{"why", "--- FAIL: TestA/b"}, ""},
		{"skip", `func TestA(t *testing.T) { t.Skip("why") }`, 1,
			[]string{"why", "ok  \tm\t", "no test may be:\n  m TestA\n"}, "FAIL\tm"},
		{"skip below", `func TestA(t *testing.T) { t.Run("b", func(t *testing.T) { t.SkipNow() }) }`, 1,
			[]string{"no test may be:\n  m TestA/b\n"}, ""},
		{"panic", `func TestA(t *testing.T) { panic("why") }`, 1, []string{"panic: why", "FAIL\tm\t"}, ""},
		{"timeout", `func TestA(t *testing.T) { select {} }`, 1, []string{"panic: test timed out", "TestA", "FAIL\tm\t"}, ""},
		{"exit", `func TestA(t *testing.T) { os.Exit(3) }`, 1, []string{"FAIL\tm\t"}, ""},
		{"no test", ``, 0, []string{"ok  \tm\t"}, ""},
		{"does not build", `func TestA(t *testing.T) { x }`, 1, []string{"undefined: x", "FAIL\tm [build failed]"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			write(t, "go.mod", "module m\n\ngo 1.26\n")
			write(t, "m_test.go", "package m\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nvar _ = os.Exit\nvar _ testing.TB\n\n"+test.body)
			var out strings.Builder
			if status := run([]string{"-timeout", "2s", "."}, &out); status != test.status {
				t.Errorf("exit status %d, want %d", status, test.status)
			}
			for _, want := range test.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in the output", want)
				}
			}
			if test.not != "" && strings.Contains(out.String(), test.not) {
				t.Errorf("%q is in the output", test.not)
			}
			if t.Failed() {
				t.Logf("the output:\n%s", out.String())
			}
		})
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
