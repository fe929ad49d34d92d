package counting

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// importSize is the number of users in the tests of import: several requests of the command.
const importSize = 10_000

// writeCounts writes a file of users in no order, each with a count of 1 to 90.
func writeCounts(t testing.TB) (file string) {
	t.Helper()
	var text strings.Builder
	for i := range importSize {
		i = i * 7919 % importSize // every number, in another order
		fmt.Fprintf(&text, "user-%05d,analyze,%d\n", i, countOf(i))
	}
	file = filepath.Join(t.TempDir(), "counts.csv")
	testkit.WriteFile(t, file, text.String())
	return file
}

func countOf(i int) int { return i%90 + 1 }

// importedUsers returns how many users have their count, and fails if one has another.
func importedUsers(t testing.TB, p *gatewaytest.Process) (n int) {
	t.Helper()
	status, list := gatewaytest.Get(p.Admin+"/admin/users?format=csv", gatewaytest.AdminToken)
	if status != 200 {
		t.Fatalf("list: %d %s", status, list)
	}
	for _, m := range regexp.MustCompile(`(?m)^user-(\d+),free,analyze,(\d+)\r?$`).FindAllStringSubmatch(list, -1) {
		i, _ := strconv.Atoi(m[1])
		if m[2] != fmt.Sprint(countOf(i)) {
			t.Errorf("user-%s has used %s, want %d", m[1], m[2], countOf(i))
		}
		n++
	}
	return n
}

// A gateway that is killed during an import has all users of which the command was told. The
// import can be repeated, and then every user has their count once.
func TestImportLosesNothingInAKill(t *testing.T) {
	for name, store := range map[string]func(*testing.T) string{
		"embedded": func(t *testing.T) string { return "embedded:" + t.TempDir() },
		"redis":    func(t *testing.T) string { return redistest.Start(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, env := writeCounts(t), []string{"METERGATE_ADMIN_TOKEN=" + gatewaytest.AdminToken}
			p := gatewaytest.StartWithAdminAPI(t, store(t), "http://127.0.0.1:1", gatewaytest.Patient)
			importing := gatewaytest.Start(t, env, "import", "-retry-for", "5s", "-admin", p.Admin, file)
			// The last user of the first request: they go in the order of their names.
			testkit.Eventually(t, "a part is imported", func() bool {
				_, body := gatewaytest.Get(p.Admin+"/admin/users/user-00999", gatewaytest.AdminToken)
				return strings.Contains(body, fmt.Sprintf(`"used":%d,`, countOf(999)))
			})
			p.Kill()
			said := regexp.MustCompile(`stopped after (\d+) of 10000 users: `)
			if code := importing.Wait(); code != 1 || !said.MatchString(importing.Output()) || !strings.Contains(importing.Output(), "Import the same again") {
				t.Fatalf("import ended with %d: %s", code, importing.Output())
			}
			told, _ := strconv.Atoi(said.FindStringSubmatch(importing.Output())[1])

			p = p.Restart()
			if n := importedUsers(t, p); n < told || n >= importSize {
				t.Errorf("%d users are there after the kill; the command was told of %d", n, told)
			}
			if code, output := gatewaytest.Run(t, env, "import", "-admin", p.Admin, file); code != 0 || !strings.HasSuffix(output, "imported 10000 counts of 10000 users into the running month\n") { // slow ones also say how far they are
				t.Fatalf("the second import ended with %d: %s", code, output)
			}
			p.Kill()
			p = p.Restart()
			if n := importedUsers(t, p); n != importSize {
				t.Errorf("%d users after the second import, want %d", n, importSize)
			}
		})
	}
}
