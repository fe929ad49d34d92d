package documents

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// The commands of docs/migrate.md print what the page shows, in its order. Stand-ins take the place of
// aws and psql; their table is the one of the page.
func TestMigratePageCommandsWork(t *testing.T) {
	findProgram(t, "jq")
	p := newPastes(t)
	month := time.Now().UTC().Format("2006-01")
	if err := os.Mkdir(filepath.Join(p.dir, "stand-ins"), 0o700); err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, filepath.Join(p.dir, "counted.csv"), "u-17,analyze,30\nu-17,image-analysis,12\nu-18,analyze,88\nu-19,analyze,12\n")
	items := []string{migrateItem("u-17", month, "analyze", "30"), migrateItem("u-17", month, "image-analysis", "10"), migrateItem("u-18", month, "analyze", "99"),
		migrateItem("u-19", month, "analyze", "12"), migrateItem("u-17", "2020-01", "analyze", "100"), migrateItem("u-18", "2020-01", "analyze", "77"), migrateItem("u-18", "2020-02", "analyze", "7")}
	testkit.WriteFile(t, filepath.Join(p.dir, "usage.json"), `{"Items": [`+strings.Join(items, ",\n")+`], "Count": 7, "ScannedCount": 7, "ConsumedCapacity": null}`)
	testkit.WriteFile(t, filepath.Join(p.dir, "export.json"), `{"Item":`+strings.Join(items, "}\n{\"Item\":")+"}\n")
	app := func(user, count string) string {
		return `{"pk": {"S": "USER#` + user + `"}, "sk": {"S": "USAGE#` + month + `"}, "count": {"N": "` + count + `"}}`
	}
	testkit.WriteFile(t, filepath.Join(p.dir, "app.json.source"), `{"Items": [`+app("u-17", "30")+","+app("u-18", "99")+","+app("u-19", "12")+
		`, {"pk": {"S": "USER#u-17"}, "sk": {"S": "PROFILE"}}, {"pk": {"S": "USER#u-17"}, "sk": {"S": "USAGE#2020-01"}, "count": {"N": "9"}}]}`)
	p.standIn("aws", `
case "$*" in
"dynamodb scan --table-name usage --output json") cat usage.json ;;
"dynamodb scan --table-name app --output json") cat app.json.source ;;
"dynamodb describe-table --table-name usage --query Table.TableArn --output text") echo arn ;;
"dynamodb export-table-to-point-in-time --table-arn arn --s3-bucket bucket --export-format DYNAMODB_JSON --query ExportDescription.ExportArn --output text") echo arn/export/id ;;
"s3 cp --recursive s3://bucket/AWSDynamoDB/id export")
	mkdir -p export/data
	gzip -c export.json >export/data/a.json.gz
	echo '{"itemCount":7,"md5Checksum":"x","etag":"y","dataFileS3Key":"AWSDynamoDB/id/data/a.json.gz"}' >export/manifest-files.json
	echo '{"version":"2020-06-30","itemCount":7,"outputFormat":"DYNAMODB_JSON"}' >export/manifest-summary.json
	touch export/_started ;;
*) echo "this test knows no aws $*" >&2; exit 2 ;;
esac`)
	p.standIn("psql", `
[[ "$2" == "copy (select user_id as user, endpoint, count as used from usage where month = '`+month+`') to stdout with (format csv, header)" ]] || { echo "psql $*" >&2; exit 2; }
printf 'user,endpoint,used\nu-17,analyze,30\nu-17,image-analysis,10\nu-18,analyze,99\nu-19,analyze,12\n'`)

	gateway := gatewaytest.StartWithAdminAPI(t, "embedded:"+t.TempDir(), "http://127.0.0.1:1")
	run := func(script string) (printed string, status int) {
		t.Helper()
		script = regexp.MustCompile(`(?m)^metergate (\w+)`).ReplaceAllString(script, "metergate $1 -admin "+gateway.Admin)
		cmd := exec.Command("bash", "-ec", strings.ReplaceAll(script, "2026-11", month))
		cmd.Dir = p.dir
		cmd.Env = append(os.Environ(), "PATH="+filepath.Join(p.dir, "stand-ins")+":"+p.dir+":"+os.Getenv("PATH"),
			"METERGATE_ADMIN_TOKEN="+gatewaytest.AdminToken, "BUCKET=bucket", "EXPORT_ARN=arn/export/id")
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, status := run("metergate import counted.csv"); status != 0 {
		t.Fatal(out)
	}
	commands, compared := 0, 0
	for script, shown := range transcripts(t, "docs/migrate.md") {
		commands++
		want := 0
		if strings.Contains(shown, "2 differ") { // the page says that the exit status is 3
			want = 3
		}
		out, status := run(script)
		if status != want {
			t.Fatalf("exit status %d, want %d:\n%s\nprinted\n%s", status, want, script, out)
		}
		shown = strings.ReplaceAll(shown, "2026-11", month)
		if shown != "" && out != shown {
			t.Errorf("the page shows\n%s\nand\n%s\nprinted\n%s", shown, script, out)
		}
		compared += strings.Count(shown, "\n")
	}
	if commands != 6 || compared < 12 {
		t.Errorf("ran %d commands and compared %d lines", commands, compared)
	}
}

// migrateItem is an item of the page's table.
func migrateItem(user, month, endpoint, count string) string {
	return `{"user_id": {"S": "` + user + `"}, "month": {"S": "` + month + `"}, "endpoint": {"S": "` + endpoint + `"}, "count": {"N": "` + count + `"}}`
}
