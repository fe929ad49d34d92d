package config

import (
	"strings"
	"testing"
)

func TestCheckAddress(t *testing.T) {
	for _, text := range []string{":0", ":8080", ":65535", "localhost:80", "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80", "my_host.example:1"} {
		if err := checkAddress(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"", ":", "8080", "localhost", "localhost:", ":65536", ":-1", ":+1", ":http", ":08", "::1:80", "[::1]", "a/b:80", "http://h:80", "a b:80"} {
		if checkAddress(text) == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for _, text := range []string{"http://h", "http://h/", "https://h:8443/a/b/", "http://127.0.0.1:9000", "http://[::1]:9000/x", "HTTP://h", "h2c://h:50051", "h2c://h/v1/", "unix:/run/api.sock", "unix:///run/api.sock", "unix:/run/a b%20c"} {
		if _, err := parseTarget(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "h", "h:80", "//h", "/a", "http:h", "http://", "http:///a", "http://:80", "ftp://h", "http://h:0", "http://h:65536", "http://h:x",
		"http://h?", "http://h?a", "http://h#", "http://h#a", "http://u@h", "http://u:p@h", "http://h /", "http://%zz", "h2c:h", "h2c://", "h2c://h:0", "h2c://h?a", "h2c://u@h", "unix:", "unix:/", "unix:a.sock", "unix://run/a.sock", "unix:/a/", "unix:/a?b", "unix:/a#b", "unix:@a", "unix:/" + strings.Repeat("x", 107), "unix+h2c:/a",
	} {
		if u, err := parseTarget(text); err == nil {
			t.Errorf("%q: got %v", text, u)
		}
	}
}

func TestCheckOrigin(t *testing.T) {
	for _, text := range []string{
		"*", "https://app.example.com", "http://localhost:5173", "http://127.0.0.1", "http://[::1]:80", "capacitor://localhost", "https://App.Example.com:8443",
		"https://*.example.app", "https://*.Example.app:8443", "http://*.pr.internal", "https://*.preview.example.co.uk", "https://*.mysite.pages.dev", "https://*.xn--bcher-kva.example",
	} {
		if err := checkOrigin(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		"": "an origin such as", "app.example.com": "an origin such as", "https://a/": "an origin such as", "https://a/b": "an origin such as", "https://u@a": "an origin such as",
		"https://a:": "an origin such as", "https://a:x": "an origin such as", "https://[a]": "an origin such as", "null": "an origin such as", "https://bücher.example": "an origin such as",
		"https://": "an origin such as",

		"https://*": "whole first label", "https://*:443": "whole first label", "https://*.": "whole first label", "https://a*.example.app": "whole first label",
		"https://*a.example.app": "whole first label", "https://a.*.example.app": "whole first label", "https://*.*.example.app": "whole first label", "https://**.example.app": "whole first label",
		"https://*example.app": "whole first label", "capacitor://*.example.app": "whole first label", "*://a.example.app": "an origin such as", "*://*.example.app": "an origin such as",
		"https://*.example.app:*": "whole first label", "https://u@*.example.app": "whole first label", "https://*.a@example.app": "whole first label", "https://*.example.app/": "whole first label",
		"https://*.bücher.example": "whole first label", "https://*.[::1]": "whole first label",

		"https://*.com": "below com,", "https://*.COM": "below com,", "https://*.co.uk": "below co.uk,", "https://*.vercel.app": "below vercel.app,", "https://*.github.io": "below github.io,",
		"https://*.pages.dev:8443": "below pages.dev,", "http://*.localhost:5173": "below localhost,", "https://*.foo.ck": "below foo.ck,",
		"https://*.com.": "name behind the *", "https://*.example.app.": "name behind the *", "https://*..app": "name behind the *", "https://*.0.0.1": "name behind the *",
	} {
		if err := checkOrigin(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want: %s", text, err, want)
		}
	}
}

func TestCheckHost(t *testing.T) {
	for _, text := range []string{
		"target", "client", "api", "api.internal", "api.internal:8080", "10.0.0.1", "10.0.0.1:1", "[::1]", "[2001:db8::1]:65535", "client:80", "targets:80", "my_host",
	} {
		if err := checkHost(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "Target", "clients", "a b", "http://a", "a/b", "u@a", "a:", "a:0", "a:65536", "a:x", "::1", "[::1", "[a]", "[::1]x", "[fe80::1%eth0]", "a:1:2", "[10.0.0.1]", "a\r\nb",
	} {
		if checkHost(text) == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}
