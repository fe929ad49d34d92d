package bench

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// startOthers runs the reverse proxies that are installed here. They write no access log,
// use one thread where that can be set, and keep their connections to the upstream.
func startOthers(t testing.TB, upstream string) []*server {
	t.Helper()
	var running []*server
	for _, other := range []struct {
		name, program string
		config        func(dir, address string) string
		args          func(dir, file string) []string
	}{
		{"nginx", "nginx",
			func(dir, address string) string { return fmt.Sprintf(nginxConf, dir, hostOf(upstream), address) },
			func(dir, file string) []string { return []string{"-p", dir, "-e", "stderr", "-c", file} }},
		{"HAProxy", "haproxy",
			func(_, address string) string { return fmt.Sprintf(haproxyConf, address, hostOf(upstream)) },
			func(_, file string) []string { return []string{"-db", "-f", file} }},
		{"Caddy", "caddy",
			func(_, address string) string {
				host, port, _ := net.SplitHostPort(address)
				return fmt.Sprintf(caddyConf, port, host, upstream)
			},
			func(_, file string) []string { return []string{"run", "--config", file, "--adapter", "caddyfile"} }},
	} {
		program, err := exec.LookPath(other.program)
		if err != nil {
			t.Logf("%s is not installed", other.name)
			continue
		}
		running = append(running, startServer(t, other.name, func(address string) *exec.Cmd {
			dir := t.TempDir()
			file := filepath.Join(dir, "config")
			if err := os.WriteFile(file, []byte(other.config(dir, address)), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program, other.args(dir, file)...)
			cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
			return cmd
		}))
	}
	return running
}

// A single process without a master, so that all processor time belongs to one pid.
const nginxConf = `
daemon off;
master_process off;
worker_processes 1;
pid %[1]s/pid;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  keepalive_requests 1000000000;
  upstream analysis { server %[2]s; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen %[3]s;
    location / {
      proxy_pass http://analysis;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
}
`

const haproxyConf = `
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  http-reuse always
  option forwardfor
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend public
  bind %s
  default_backend analysis
backend analysis
  server one %s
`

const caddyConf = `
{
  admin off
  auto_https off
}
http://:%s {
  bind %s
  reverse_proxy %s {
    transport http {
      keepalive_idle_conns_per_host 1024
    }
  }
}
`
