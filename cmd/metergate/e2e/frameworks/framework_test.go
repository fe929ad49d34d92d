package frameworks

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"metergate/quota/testkit"
)

// A framework runs the same four handlers as the others. They answer "ran " and a name.
type framework struct {
	name    string
	needs   []string // files and programs
	command func(dir string) []string
	// serves has kinds of near matches with which the framework runs a handler, as it is by
	// default. This shows that the table of requests is worth something.
	serves string
}

const debianPython = "/usr/bin/python3" // its packages have Flask; another python3 may come first in PATH

func frameworks(t *testing.T) []framework {
	modules := filepath.Join(testkit.ModuleRoot(t), ".ci/npm/node_modules")
	express := func(module string) framework {
		dir := filepath.Join(modules, module)
		return framework{
			name: module, needs: []string{"node", dir},
			command: func(string) []string { return []string{"node", "testdata/express.js", dir} },
			serves:  "capital letter, capital letters, slash at the end",
		}
	}
	return []framework{
		express("express"), express("express4"),
		{
			name: "flask", needs: []string{debianPython, "/usr/lib/python3/dist-packages/flask"},
			command: func(string) []string { return []string{debianPython, "testdata/handlers.py"} },
			serves:  "method in small letters",
		},
		{
			name: "spring", needs: append([]string{"java"}, springJars...),
			command: func(dir string) []string {
				return []string{"java", "-cp", strings.Join(springJars, ":"), "testdata/Handlers.java", dir}
			},
			serves: "slash at the end, parameter, parameter in the middle, extension, dot at the end, parameter behind a slash",
		},
	}
}

// springJars are Spring MVC and Tomcat, as Debian packages them.
var springJars = func() (jars []string) {
	for _, jar := range strings.Fields(`spring3-core spring3-beans spring3-aop spring3-expression spring3-context spring3-web
		spring3-web.servlet commons-logging tomcat9-catalina tomcat9-coyote tomcat9-juli tomcat9-util tomcat9-util-scan
		tomcat9-api tomcat9-servlet-api tomcat9-annotations-api tomcat9-jaspic-api tomcat9-jni`) {
		jars = append(jars, "/usr/share/java/"+jar+".jar")
	}
	return jars
}()

// start runs a framework and returns its address. If it is not installed, the test is
// skipped, or fails if METERGATE_TEST_REQUIRE is set.
func (f framework) start(t *testing.T) (addr string) {
	t.Helper()
	for _, name := range f.needs {
		_, err := os.Stat(name)
		if !filepath.IsAbs(name) {
			_, err = exec.LookPath(name)
		}
		if err != nil {
			if os.Getenv("METERGATE_TEST_REQUIRE") != "" {
				t.Fatal(err)
			}
			t.Skip("run .ci/install for the frameworks: ", err)
		}
	}
	command := f.command(t.TempDir())
	var errors strings.Builder
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = &errors
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	port := 0
	lines := bufio.NewScanner(out)
	for port == 0 && lines.Scan() {
		fmt.Sscanf(lines.Text(), "listening on %d", &port)
	}
	if port == 0 {
		cmd.Wait()
		t.Fatalf("%s does not say where it listens:\n%s", f.name, errors.String())
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}
