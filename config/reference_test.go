package config

import (
	"encoding/json"
	"errors"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"metergate/proxy/jwtauth/jwtrules"
	"metergate/quota"
	"metergate/quota/redisstore/redisurl"
)

// The schema and the tables of docs/configuration.md are generated from the types, their
// comments and the rules in this file.
var update = flag.Bool("update", false, "write gateway.schema.json and the tables of docs/configuration.md")

// comments holds the comments of the package's types by "Type", and those of their fields by
// "Type.Field". A comment is one line.
type comments map[string]string

func readComments(t *testing.T) comments {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	all := comments{}
	oneLine := func(group *ast.CommentGroup) string { return strings.Join(strings.Fields(group.Text()), " ") }
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			decl, ok := decl.(*ast.GenDecl)
			if !ok || decl.Tok != token.TYPE {
				continue
			}
			spec := decl.Specs[0].(*ast.TypeSpec)
			all[spec.Name.Name] = oneLine(decl.Doc)
			fields, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range fields.Fields.List {
				for _, name := range f.Names {
					all[spec.Name.Name+"."+name.Name] = oneLine(f.Doc)
				}
			}
		}
	}
	return all
}

// structsOf returns the struct types below a type, in the order in which they are reached.
func structsOf(typ reflect.Type) []reflect.Type {
	var found []reflect.Type
	var visit func(reflect.Type)
	visit = func(typ reflect.Type) {
		switch {
		case isScalar(typ), typ == claimPlansType:
		case typ.Kind() != reflect.Struct:
			visit(typ.Elem())
		default:
			found = append(found, typ)
			for f := range keyedFields(typ) {
				visit(f.Type)
			}
		}
	}
	visit(typ)
	return found
}

// defaultOf returns the default of a key as the file would have it.
func defaultOf(f reflect.StructField) (text string, ok bool) {
	if f.Type.Kind() == reflect.Bool {
		no, _, hasWords := strings.Cut(f.Tag.Get("oneof"), ", ")
		if !hasWords {
			no = "false"
		}
		return no, true
	}
	return f.Tag.Lookup("default")
}

// bounds returns the bounds of a number, a duration or a size; either may be empty.
func bounds(f reflect.StructField) (low, high string) {
	if f.Tag.Get("as") == "limit" { // checked by checkAmount
		return "0", strconv.Itoa(quota.MaxAmount)
	}
	return f.Tag.Get("min"), f.Tag.Get("max")
}

// A scalarRule says which scalars a key accepts. It is the part of the reference that the
// types do not hold.
type scalarRule struct {
	// label says in the documentation what the value is.
	label string
	// pattern is what the schema asks of a text. It may accept more than the decoder does,
	// which knows more than a regular expression, and never less. Empty: any text.
	pattern string
	// other is a JSON type that the schema accepts beside a text, since YAML reads some texts
	// as numbers.
	other string
	// words are texts with a meaning of their own, which editors offer.
	words []string
	// noEmpty is for a text without a pattern that must not be empty.
	noEmpty bool
	// good and bad are examples, to which schema and decoder must agree.
	good, bad []any
	// check checks a text; nil: convert does.
	check func(text string) error
}

// scalarRules are the rules by the tag "as".
var scalarRules = map[string]scalarRule{
	"": {label: "text", other: "number", good: []any{"a", json.Number("7")}},
	"address": {label: "HOST:PORT, :PORT, `unix:PATH`, `systemd` or `systemd:NAME`",
		pattern: `^([^/@ ]*:[0-9]{1,5}|unix:/[^?]*[^?/](\?mode=0[67][0-7]{2})?|systemd(:[A-Za-z0-9._@-]{1,255})?)$`,
		good:    []any{":80", "[::1]:0", "unix:/run/a.sock", "unix:/run/a.sock?mode=0600", "systemd", "systemd:http"},
		bad:     []any{"80", "a", "http://a:80", "unix:a", "unix:/", "unix:/a?mode=660", "unix:/a?mode=0060", "unix:/a?b", "systemd:", "systemd:a b"}},
	"claim": {label: "path of a claim", pattern: `^([^.\\]|\\[.\\])+(\.([^.\\]|\\[.\\])+)*$`, other: "number",
		good: []any{"app.plan", `https://a\.b/c`, `a\\b`}, bad: []any{"app..plan", ".a", "", `a\b`, `a\`}},
	"carry": {label: "1 to 1000000000000, or `all`", words: []string{carryAll}, pattern: `^[1-9][0-9]{0,12}$`, other: "integer",
		good: []any{"all", json.Number("1"), json.Number("1000000000000"), "5"}, bad: []any{"some", "0", "01", json.Number("1.5"), ""}},
	"collector": {label: "URL", pattern: `^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+(/[^?#]*)?$`,
		good: []any{"http://collector:4318", "https://a/otlp/"}, bad: []any{"", "a:4318", "grpc://a", "http://a?b", "http://u@a", "http://a#b"}},
	"cookiename": {label: "1 to 64 letters, digits and _ - .", pattern: `^[A-Za-z0-9_.-]{1,64}$`, other: "number",
		good: []any{"session", "__Host-session"}, bad: []any{"a session", "a;b", ""}},
	"costsource": {label: "`header NAME` or `json PATH`", pattern: `^(header +[A-Za-z0-9-]{1,64}|json +[A-Za-z0-9_:@-]{1,64}(\.[A-Za-z0-9_:@-]{1,64}){0,15}) *$`,
		good: []any{"header X-Report-Cost", "json usage.total_tokens", "json  units "},
		bad:  []any{"X-Report-Cost", "header", "header X_Cost", "json", "json ", "json $.usage", "json usage..tokens", "usage.total_tokens", "JSON usage", ""}},
	"endpoint": {label: "1 to 64 of a-z, 0-9, -", pattern: `^[a-z0-9-]{1,64}$`, other: "integer",
		good: []any{"image-analysis", json.Number("7")}, bad: []any{"Image", ""}},
	"file": {label: "file", other: "number", noEmpty: true,
		good: []any{"cert.pem", json.Number("7")}, bad: []any{""}},
	"folder": {label: "folder", other: "number", noEmpty: true,
		good: []any{"./data", json.Number("7")}, bad: []any{""}},
	"header": {label: "header", pattern: `^[A-Za-z0-9-]{1,64}$`,
		good: []any{"X-User"}, bad: []any{"X_User", "X User", ""}},
	"host": {label: "`target`, `client` or HOST[:PORT]", words: []string{HostTarget, HostClient}, pattern: `^([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`,
		good: []any{"target", "client", "api", "api.internal:80", "[::1]:80"}, bad: []any{"http://a", "a:b", ""}},
	"issuername": {label: "1 to 64 letters, digits, -, _", pattern: `^[A-Za-z0-9_-]{0,64}$`, other: "integer",
		good: []any{"", "app", "a_B-1", json.Number("7")}, bad: []any{"a b", "https://a", strings.Repeat("a", 65)}},
	"jwks": {label: "URL", pattern: `^((https://|http://(localhost|127\.[0-9.]+|\[::1\])(:|/|\?|$))[^@#]*)?$`,
		good: []any{"", "https://a", "https://a:8443/b?c=d", "http://localhost/", "http://127.0.0.1:80/", "http://[::1]:80"},
		bad:  []any{"a", "ftp://a", "http://a/", "http://localhost.example/", "https://u@a/", "https://a/#b"}},
	"signing": {label: "`whsec_` and 24 to 64 bytes in base64", pattern: `^\s*whsec_[A-Za-z0-9+/]{31,86}={0,2}(\s+whsec_[A-Za-z0-9+/]{31,86}={0,2})?\s*$`,
		good: []any{"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNA== whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"},
		bad:  []any{"", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "whsec_MDEyMzQ1", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkw MTIz"},
		check: func(text string) error {
			if !areSigningSecrets(text) {
				return errors.New("not a signing secret")
			}
			return nil
		}},
	"mediatype": {label: "media type", pattern: `^(([A-Za-z0-9!#$&^_.+-]{1,127}/)?[A-Za-z0-9!#$&^_.+-]{1,127})?$`,
		good: []any{"", "at+jwt", "application/at+jwt"}, bad: []any{"at jwt", "a/b/c", "a/"}},
	"origin": {label: "origin or `*`", pattern: `^(\*|[A-Za-z][A-Za-z0-9+.-]*://[^/?#@]+)$`,
		good: []any{"*", "http://[::1]:80"}, bad: []any{"a.example", "https://a/b", ""}},
	"parameter": {label: "1 to 64 letters, digits and _ - .", pattern: `^[A-Za-z0-9_.-]{0,64}$`, other: "number",
		good: []any{"access_token", ""}, bad: []any{"access token", "a=b"}},
	"passed": {label: "header", pattern: `^[A-Za-z0-9-]{1,64}$`,
		good: []any{"X-Forwarded-User"}, bad: []any{"X_User", "X User", ""}},
	"path": {label: "path", pattern: `^/[^?#{}\s]*$`,
		good: []any{"/a", "/a/b%20c"}, bad: []any{"a", "/a?b", "/{a}"}},
	"pattern": {label: "pattern", pattern: `^([^\s/]+[ \t]+)?[^\s/]*/[^?#]*$`,
		good: []any{"/", "GET /a/{id}", "POST api.example/a/{rest...}"}, bad: []any{"GET", "G T /a", "/a?b", ""}, check: checkPattern},
	"prefix": {label: "1 to 64 letters, digits and _ . : -", pattern: `^[A-Za-z0-9_.:-]{1,64}$`, other: "number",
		good: []any{"a.b:c_d-e"}, bad: []any{"a b", ""}},
	"otlpheaders": {label: "NAME=VALUE,NAME=VALUE", pattern: "^[^,=]*=[^,]*(,[^,=]*=[^,]*)*$|^$",
		good: []any{"", "Authorization=Bearer%20abc", "a=b, x-tenant = shop"}, bad: []any{"abc", "a=b,c"},
		check: checkTraceHeaders},
	"service": {label: "1 to 255 bytes of text", other: "number", noEmpty: true,
		good: []any{"metergate", "shop/gateway"}, bad: []any{""}},
	"servername": {label: "name or IP address", pattern: `^[A-Za-z0-9._:-]{1,253}$`,
		good: []any{"api.internal", "10.0.0.1", "::1"}, bad: []any{"a/b", ""}},
	"store": {label: "URL or embedded:DIR", pattern: `^(embedded:.|rediss?(\+cluster|\+sentinel)?://[^?#]*$|unix:///[^?#]*(\?db=[0-9]{1,9})?$)`,
		good: []any{"embedded:./data", "redis://:p@h:1/3", "unix:///run/redis.sock?db=1", "rediss+sentinel://h:1,h:2/main"},
		bad:  []any{"", "embedded:", "http://h", "redis://h?db=1", "redis:h"},
		check: func(text string) error {
			if dir, ok := (Store{URL: Secret(text)}).Embedded(); ok && dir != "" {
				return nil
			}
			_, err := redisurl.Parse(text)
			return err
		}},
	"strip": {label: "path", pattern: `^/[^?#{}\s]*$`,
		good: []any{"/a", "/a/b%20c"}, bad: []any{"a", "/a?b", "/{a}"}},
	"token": {label: "16 bytes or more of printable ASCII", pattern: `^([!-~]{16,})?$`, other: "number",
		good: []any{"", "0123456789abcdef"}, bad: []any{"0123456789abcde", "0123456789 abcdef"},
		check: func(text string) error {
			if text != "" && (len(text) < minTokenBytes || strings.Contains(text, " ")) {
				return errors.New("too short, or with a space")
			}
			return nil
		}},
	"unitname": {label: "1 to 32 bytes of text", other: "number", noEmpty: true,
		good: []any{"credits", json.Number("7")}, bad: []any{""}},
	"webhook": {label: "URL", pattern: `^(https://|http://(localhost|127\.[0-9.]+|\[::1\])(:|/|\?|$))[^@#]*$`,
		good: []any{"https://a", "https://a:8443/b?c=d", "http://localhost/", "http://127.0.0.1:80/", "http://[::1]:80"},
		bad:  []any{"", "a", "ftp://a", "http://a/", "http://localhost.example/", "https://u@a/", "https://a/#b"}},
	"url": {label: "URL", pattern: `^$|^[Hh][Tt][Tt][Pp][Ss]?://[^/?#]`,
		good: []any{"", "https://a/?b"}, bad: []any{"a", "ftp://a"}},
}

// typeRules are the rules of types that are not plain texts.
var typeRules = map[reflect.Type]scalarRule{
	durationType: {label: "duration", pattern: `^([0-9]+d|([0-9]+d)?(([0-9]*\.)?[0-9]+(ns|us|µs|ms|s|m|h))+)$`,
		bad: []any{json.Number("5"), "5", "soon", "-1s", "1d-12h"}},
	prefixType: {label: "network, IP address or `unix`",
		pattern: `^(unix|[0-9]{1,3}(\.[0-9]{1,3}){3}(/[1-9][0-9]?)?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(/[1-9][0-9]{0,2})?)$`,
		good:    []any{"10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1", "unix"},
		bad:     []any{"10.0.0.0/0", "::/0", "10.0.0.0-10.0.0.9", "proxy", "fe80::1%eth0", ""}},
	urlType: {label: "URL or `unix:PATH`", pattern: `^([Hh][Tt][Tt][Pp][Ss]?|h2c)://[^/?#@]+(/[^?#]*)?$|^unix:/[^?#]*[^?#/]$`,
		good: []any{"http://a", "https://[::1]:80/b/", "h2c://a:50051", "unix:/run/api.sock"},
		bad:  []any{"a", "ftp://a", "http://a?b", "http://u@a", "http://a#b", "h2c://a?b", "unix:a", "unix:/", "unix:/a?b"}},
	locationType: {label: "time zone", good: []any{"UTC", "Europe/Berlin"}, bad: []any{"Local"}},
}

// oneOfTexts returns the texts that a key accepts, nil if they are not listed.
func oneOfTexts(f reflect.StructField) []string {
	if f.Type == periodType {
		return periodNames()
	}
	tag := f.Tag
	if tag.Get("as") == "algorithm" {
		return jwtrules.Algorithms()
	}
	if list, ok := tag.Lookup("oneof"); ok {
		return strings.Split(list, ", ")
	}
	return nil
}

// mustBeCurrent compares a generated file with the committed one, or writes it with -update.
func mustBeCurrent(t *testing.T, file string, generated []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, generated, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	committed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(committed) != string(generated) {
		t.Errorf("%s is not what the types say; run: go generate ./config", file)
	}
}
