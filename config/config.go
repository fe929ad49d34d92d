// Package config reads the gateway's configuration, a YAML file.
//
// The types are the manual: each field says what it does, its default and its
// bounds, and the keys of the file are in the yaml tags. [Load] is strict. An
// unknown or repeated key, a wrong type, a name that is defined nowhere, two
// routes that contend for a request: each is an [Error] with file and line, and
// all of them are reported at once.
//
//	gateway.yaml:12: plans.free.limits[0].requests: must be positive, got -1
//
// # Variables
//
// ${NAME} in a value is replaced by the environment variable NAME, which must be
// set; ${NAME:-default} takes the default when NAME is not set or empty. The
// default is plain text up to the first }. $$ is a $, and a $ before anything
// else is itself. This happens after the YAML has been read: what a variable
// holds can become text, a number or a truth value, but never a key, a list or a
// second value. Between { } and [ ] YAML wants quotes around "${NAME}"; a number
// is still a number there.
//
// # Secrets
//
// A field of type [Secret], say secret, can be given as secret_file instead: its
// value is then the content of that file without the newline at its end. No
// error shows a secret or the value of a variable: messages quote what stands in
// the file.
//
// # Units and paths
//
// Whole numbers are written in decimal, without a leading 0. Durations are written as 250ms, 1m30s, 400d or 1d12h, sizes as 65536, 500KB or
// 32MiB. A relative path is relative to the folder of the configuration file.
package config

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"
)

// Config is a checked configuration with all defaults filled in.
type Config struct {
	// Listen is the address of the public listener, HOST:PORT; no HOST: on all
	// interfaces. Default ":8080".
	Listen string `yaml:"listen" default:":8080" as:"address"`
	// ShutdownTimeout is how long requests in flight may take to finish when the
	// gateway stops. Default: the longest timeout of upstreams and routes plus 10s;
	// 1ms to 1d.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout" min:"1ms" max:"1d"`
	// TLS makes the public listener speak TLS, with HTTP/1.1 and HTTP/2. Default nil:
	// it speaks HTTP/1.1 without it.
	TLS *TLS `yaml:"tls"`
	// TrustedProxies are the networks (10.0.0.0/8, 2001:db8::/32) or single addresses
	// of the proxies in front of the gateway. What a peer from there sends in
	// X-Forwarded-For and its kin is believed, and its X-Request-Id taken over; from
	// anybody else such fields are removed. Each once, and not all of the Internet
	// (/0). Default none.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	MaxInFlight    MaxInFlight    `yaml:"max_in_flight"`
	Admin          Admin          `yaml:"admin"`
	Store          Store          `yaml:"store"`
	Auth           Auth           `yaml:"auth" required:"true"`
	// DefaultPlan is for tokens without a plan or with an unknown one. Required,
	// one of Plans.
	DefaultPlan string `yaml:"default_plan" required:"true"`
	// Plans by name, at least one. A name has 1 to 64 letters, digits, - and _.
	Plans map[string]Plan `yaml:"plans" required:"true"`
	// Timezone is where a day, week, month or year begins: a name of the IANA
	// database such as Europe/Berlin. "Local" is refused, gateways on two machines
	// could differ. Default UTC.
	Timezone *time.Location `yaml:"timezone" default:"UTC"`
	// WarnAt is the percentage of a limit from which a user is warned. Default 80;
	// 1 to 100.
	WarnAt int `yaml:"warn_at" default:"80" min:"1" max:"100"`
	// UpgradeURL is sent to users who reached a limit: http or https, absolute.
	// Default: none is sent.
	UpgradeURL string `yaml:"upgrade_url" as:"url"`
	// Upstreams by name, at least one. Names are like those of plans.
	Upstreams map[string]Upstream `yaml:"upstreams" required:"true"`
	// Routes, at least one. Their order means nothing.
	Routes []Route `yaml:"routes" required:"true"`
	// CORS lets browsers on other origins call the gateway. Default nil: it is off.
	CORS *CORS `yaml:"cors"`
	Log  Log   `yaml:"log"`
	// Files are the files that the configuration was read from: its own, and those
	// with secrets, keys and certificates that it names.
	Files []string
}

// TLS is the certificate of the public listener. Connections speak TLS 1.2 or 1.3.
type TLS struct {
	// CertFile and KeyFile are PEM files of at most 64 KiB with the certificate,
	// followed by the intermediate ones, and its private key, without a password.
	// Both are required.
	CertFile string `yaml:"cert_file" required:"true" as:"file"`
	KeyFile  string `yaml:"key_file" required:"true" as:"file"`
	// Digest is of what the files held when they were checked: two configurations
	// differ when a file has changed.
	Digest string
}

// MaxInFlight bounds the requests that one gateway serves at once: 503 or 429 above it,
// at once, and nothing is counted. The streams of GET /usage/stream are not among them.
type MaxInFlight struct {
	// Total is for all of them. A waiting one takes about 60 KiB and two file
	// descriptors. Routes with auth: none have a quarter of it, rounded up. Default
	// 10000; 1 to 1,000,000.
	Total int `yaml:"total" default:"10000" min:"1" max:"1000000"`
	// PerUser is for those of one user, and not more than Total. 0: no bound but that.
	// Default 1000; 0 to 1,000,000.
	PerUser int `yaml:"per_user" default:"1000" min:"0" max:"1000000"`
}

// Admin is the listener for health, metrics and the admin API. Health and metrics
// have no authentication: keep it off public networks.
type Admin struct {
	// Listen is its address, HOST:PORT, another one than the public listener's.
	// Default "127.0.0.1:9090".
	Listen string `yaml:"listen" default:"127.0.0.1:9090" as:"address"`
	// Token is what the admin API asks for: at least 16 bytes of printable ASCII
	// without blanks. Empty: the API answers 403.
	Token Secret `yaml:"token"`
}

// Store is where the gateway counts.
type Store struct {
	// URL is one of
	//	embedded:DIR                        in a folder, for one process
	//	redis://[USER:PASSWORD@]HOST[:PORT][/DB]   one Redis
	//	rediss://...                        the same over TLS
	//	unix:///PATH[?db=DB]                one Redis on a socket
	//	redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT             some nodes of a Redis Cluster
	//	redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/NAME[/DB]  Sentinels, and their name of the master
	//	rediss+cluster://... and rediss+sentinel://...   the same over TLS
	// Every host of a list has its port. Sentinels get the same user and password as
	// the master, where they want any. The embedded store's DIR is resolved against the configuration's folder.
	// Default "embedded:./data".
	URL Secret `yaml:"url" default:"embedded:./data"`
	// Prefix is the first part of every key in Redis: 1 to 64 letters, digits and
	// any of _ . : -. Default "metergate".
	Prefix string `yaml:"prefix" default:"metergate" as:"prefix"`
	// Timeout is the longest that a request waits for one answer of the store.
	// Default 250ms; 1ms to 60s.
	Timeout time.Duration `yaml:"timeout" default:"250ms" min:"1ms" max:"60s"`
	// OnFailure says what happens to a metered request when the store does not
	// answer. Default Allow.
	OnFailure OnFailure `yaml:"on_failure" default:"allow" oneof:"allow, deny"`
	// Journal is a folder in which counts wait for a Redis that does not answer. It
	// must be writable, and each gateway needs one of its own. The embedded store
	// has no use for it. Not empty. Default "./data/journal".
	Journal string `yaml:"journal" default:"./data/journal" as:"folder"`
	// Keep is how long the counts of past windows can still be read. Default 400d,
	// at least 1d.
	Keep time.Duration `yaml:"keep" default:"400d" min:"1d"`
}

const embedded = "embedded:"

// Embedded returns the folder of the embedded store. Not ok: the store is a Redis.
func (s Store) Embedded() (dir string, ok bool) {
	return strings.CutPrefix(string(s.URL), embedded)
}

// OnFailure is what to do with a request that the store does not answer.
type OnFailure string

// The two answers.
const (
	Allow OnFailure = "allow" // forward it
	Deny  OnFailure = "deny"  // refuse it with 503
)

// Auth says how users are known.
type Auth struct {
	JWT JWT `yaml:"jwt" required:"true"`
}

// JWT says which tokens are good. At least one of Secret, PublicKeyFile and JWKSURL is
// required.
type JWT struct {
	// Secret verifies HS256, HS384 and HS512: at least 32 bytes. Empty: none.
	Secret Secret `yaml:"secret"`
	// PublicKeyFile is a PEM file that verifies all other algorithms, with one PUBLIC
	// KEY, RSA PUBLIC KEY or CERTIFICATE: RSA of at least 2048 bits, EC on the curve
	// P-256, P-384 or P-521, or Ed25519. Empty: none.
	PublicKeyFile string `yaml:"public_key_file"`
	// JWKSURL is where the issuer publishes its public keys as a JSON Web Key Set, which
	// verify all other algorithms, too: https, or http on this machine (localhost,
	// 127.0.0.1, [::1]). No user, password or fragment. With it, a token that has a kid is
	// verified with the key of that name in the set, and one without a kid with
	// PublicKeyFile. Its query, which may hold a key, is shown nowhere. Empty: none.
	JWKSURL string `yaml:"jwks_url" as:"jwks"`
	// Algorithms are the only ones accepted: HS256, HS384, HS512, RS256, RS384,
	// RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA. Each once, and each
	// must have its kind of key, and each key one of them. Default [HS256] with a secret
	// alone; otherwise required.
	Algorithms []string `yaml:"algorithms" as:"algorithm"`
	// Type is what the typ of a token's header must be, such as at+jwt for access tokens
	// of RFC 9068: a media type, in any case, with or without application/ in front.
	// Empty: anything.
	Type string `yaml:"type" as:"mediatype"`
	// Issuer is what the iss claim must be. Empty: anything.
	Issuer string `yaml:"issuer"`
	// Audience is what the aud claim must contain. Empty: anything.
	Audience string `yaml:"audience"`
	// Leeway is how far clocks may differ when exp and nbf are checked. Default 5s;
	// 0s to 5m.
	Leeway time.Duration `yaml:"leeway" default:"5s" min:"0s" max:"5m"`
	Claims Claims        `yaml:"claims"`
}

// Claims name the claims that are read from a token. A dotted path reaches into
// objects: app.plan is the member plan of the claim app. A dot within a name is
// written \., a backslash \\: the claim https://example.com/plan is
// https://example\.com/plan. They must differ, and neither can be within the other.
type Claims struct {
	User string `yaml:"user" default:"sub" as:"claim"`  // default "sub"
	Plan string `yaml:"plan" default:"plan" as:"claim"` // default "plan"
}

// A Plan is a list of limits, all of which hold. Without limits its users are
// counted and never blocked.
type Plan struct {
	// Limits. The first one without an endpoint is the headline limit. Default
	// none. One endpoint and window has one limit.
	Limits []Limit `yaml:"limits"`
	// Attempts bound how often a user may try, whatever becomes of the request, on all
	// metered routes together. Default nil: they do not.
	Attempts *Attempts `yaml:"attempts"`
	// Observe: limits and attempts block nothing. What they would refuse is forwarded and
	// counted, and named in the log, in a metric and in X-Usage-Would-Block. In the file
	// "mode: observe"; the default is "mode: enforce", false.
	Observe bool `yaml:"mode" oneof:"enforce, observe"`
}

// A Limit allows a number of requests in each window.
type Limit struct {
	// Requests is required, 0 to 1,000,000,000,000. 0: not in this plan.
	Requests int64 `yaml:"requests" required:"true"`
	// Per is the window: minute, hour, day, week, month or year. Required.
	Per string `yaml:"per" required:"true" oneof:"minute, hour, day, week, month, year"`
	// Endpoint is the one that the limit is for; a route must have it. Default:
	// all endpoints together.
	Endpoint string `yaml:"endpoint" as:"endpoint"`
}

// Attempts are a number of requests that a user may send at once. They come back
// evenly, all of them within the time that Per says.
type Attempts struct {
	// Requests is required, 1 to 10000.
	Requests int64 `yaml:"requests" required:"true" min:"1" max:"10000"`
	// Per is a length of time, not a window of the calendar: second, minute, hour or
	// day, which has 24 hours. Required.
	Per string `yaml:"per" required:"true" oneof:"second, minute, hour, day"`
}

// Length is how long Per is.
func (a Attempts) Length() time.Duration {
	return map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[a.Per]
}

// An Upstream is a service behind the gateway.
type Upstream struct {
	// Targets are where it runs. Required, at least one; each URL once, and not all
	// with weight 0.
	Targets []Target `yaml:"targets" required:"true"`
	// Balance says which target a request goes to. Default LeastInFlight.
	Balance Balance `yaml:"balance" default:"least_in_flight" oneof:"least_in_flight, round_robin"`
	// Health asks the targets whether they are well. Default nil: nobody asks.
	Health *Health `yaml:"health"`
	// Eject keeps requests away from targets that fail them.
	Eject Eject `yaml:"eject"`
	// TLS is for https targets. Default nil: they are verified with the system's
	// authorities, and see no certificate.
	TLS *UpstreamTLS `yaml:"tls"`
	// Host is the Host field of requests to the targets: HostTarget, HostClient, or
	// a name or IP address with or without a port, the same for all. Default
	// HostTarget.
	Host string `yaml:"host" default:"target" as:"host"`
	// Timeout runs from the admission of a request to the headers of its final
	// response. Default 120s; 1ms to 1h. Routes can have their own.
	Timeout time.Duration `yaml:"timeout" default:"120s" min:"1ms" max:"1h"`
	// MaxBody is the largest body of a request, in bytes. Default 32MiB, at least 1.
	// Routes can have their own.
	MaxBody int64 `yaml:"max_body" default:"32MiB" min:"1" as:"size"`
}

// Two words that may stand for the name of a host.
const (
	HostTarget = "target" // what the target's URL has
	HostClient = "client" // what the client sent
)

// Balance is a way to choose between targets.
type Balance string

// The two ways. Both give targets their share by weight.
const (
	LeastInFlight Balance = "least_in_flight" // of two at random, the one with fewer requests
	RoundRobin    Balance = "round_robin"     // in turn
)

// A Target is one address of an upstream.
type Target struct {
	// URL is http or https with a host. Its path is put before the path of every
	// request. No query, fragment, user or password. Required.
	URL *url.URL `yaml:"url" required:"true"`
	// Weight is its share of the requests, beside those of the other targets. 0: it
	// gets no new ones. Default 1; 0 to 1000.
	Weight int `yaml:"weight" default:"1" min:"0" max:"1000"`
}

// Health asks each target at regular intervals. One that does not answer 2xx gets
// no requests until it does.
type Health struct {
	// Path is asked for with GET, after the target's own path, like that of every
	// request. It begins with / and is canonical, without a query. Required.
	Path string `yaml:"path" required:"true" as:"path"`
	// Interval is the time from one question to the next. Default 5s; 100ms to 1h.
	Interval time.Duration `yaml:"interval" default:"5s" min:"100ms" max:"1h"`
	// Timeout is how long an answer may take. Default 2s, or the interval if that is
	// shorter; at least 10ms and not longer than the interval.
	Timeout time.Duration `yaml:"timeout" default:"2s" min:"10ms" max:"1h"`
}

// Eject keeps requests away from a target for a while after several in a row have
// failed there. The last target is never ejected.
type Eject struct {
	// ConnectFailures is how many connections in a row must fail. Default 3; 1 to 100.
	ConnectFailures int `yaml:"connect_failures" default:"3" min:"1" max:"100"`
	// ServerErrors is how many responses in a row must be 5xx. Default 0: they are
	// no reason; 0 to 1000.
	ServerErrors int `yaml:"server_errors" default:"0" min:"0" max:"1000"`
	// For is how long. Default 10s; 100ms to 1h.
	For time.Duration `yaml:"for" default:"10s" min:"100ms" max:"1h"`
}

// UpstreamTLS is how the gateway speaks TLS to targets. At least one of them must
// be https.
type UpstreamTLS struct {
	// CAFile is a PEM file with the certificates of the authorities, at most 1 MiB,
	// that are trusted instead of the system's. Empty: the system's.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are PEM files with the certificate that the gateway shows,
	// followed by the intermediate ones, and its private key, without a password.
	// Only together. Empty: it shows none.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ServerName is the name or IP address that the targets' certificates must have,
	// and the name that targets are asked for (SNI). Empty: that of the target's URL.
	ServerName string `yaml:"server_name" as:"servername"`
	// Digest is of what the files held when they were checked: two configurations
	// differ when a file has changed. Empty without files.
	Digest string
}

// A Route says which requests go where, and under which name they count.
type Route struct {
	// Match is a pattern of http.ServeMux: "POST /api/analyze", "GET /items/{id}",
	// "example.com/files/". The more specific of two patterns wins; two that
	// overlap without that are an error. Nothing at or below /usage, which belongs
	// to the gateway. Required.
	Match string `yaml:"match" required:"true"`
	// Endpoint is the name that requests count under: 1 to 64 of a-z, 0-9 and -.
	// Default: they are forwarded and not metered.
	Endpoint string `yaml:"endpoint" as:"endpoint"`
	// Upstream is the name of one of the upstreams. Required.
	Upstream string `yaml:"upstream" required:"true"`
	// Public: no token is asked for. In the file "auth: none", which only a route
	// without an endpoint can have; the default is "auth: jwt", false.
	Public bool `yaml:"auth" oneof:"jwt, none"`
	// Timeout is like the upstream's, whose it is by default; 1ms to 1h.
	Timeout time.Duration `yaml:"timeout" min:"1ms" max:"1h"`
	// MaxBody is like the upstream's, whose it is by default; at least 1.
	MaxBody int64 `yaml:"max_body" min:"1" as:"size"`
	// StripPrefix is taken off the path before it is put after the target's; what is
	// left of all of it is /. It is made of whole segments, and Match must begin with
	// them, without wildcards. No slash at its end. Default: nothing is taken off.
	StripPrefix string `yaml:"strip_prefix" as:"strip"`
	// Upgrade: a client may change to another protocol, WebSocket say. In the file
	// "upgrade: allow", which only a route without an endpoint can have; the default
	// is "upgrade: refuse", false.
	Upgrade bool `yaml:"upgrade" oneof:"refuse, allow"`
	// UserHeader and PlanHeader name the header fields that tell the upstream who the
	// user is and which plan they have, in canonical form (X-User). Two different
	// names, only for a route with "auth: jwt". What a client sends in them must not
	// reach the upstream. Default: it is not told.
	UserHeader string `yaml:"user_header" as:"header"`
	PlanHeader string `yaml:"plan_header" as:"header"`
	// DropAuthorization: the upstream does not get the Authorization field. In the
	// file "authorization: drop"; the default is "authorization: forward", false.
	DropAuthorization bool `yaml:"authorization" oneof:"forward, drop"`
	// Observe: nothing that a plan limits blocks a request on this route, see Plan. In the
	// file "mode: observe"; the default is "mode: enforce", false, which is as the plan says.
	// Only a route with an endpoint can observe.
	Observe bool `yaml:"mode" oneof:"enforce, observe"`
	// Line is where the route stands in the file, from 1.
	Line int
}

// CORS says which other origins may call the gateway from a browser.
type CORS struct {
	// AllowedOrigins are like https://app.example.com or http://localhost:5173, or
	// "*" for any. Required, at least one.
	AllowedOrigins []string `yaml:"allowed_origins" required:"true" as:"origin"`
	// AllowCredentials lets browsers send cookies. Default false; not with "*".
	AllowCredentials bool `yaml:"allow_credentials"`
}

// Log says what is logged, and how.
type Log struct {
	// Level is the least important one that is logged: debug, info, warn or error.
	// Default info.
	Level slog.Level `yaml:"level" default:"info" oneof:"debug, info, warn, error"`
	// Format is "json" or "text". Default "json".
	Format string `yaml:"format" default:"json" oneof:"json, text"`
	// User says how the line of a request names its user. Default LogPlain.
	User LogUser `yaml:"user" default:"plain" oneof:"plain, hash, omit"`
	// SampleSuccesses is the share of the requests answered 2xx that get a line; all
	// others do, and those that are observed and would have been blocked. 0.1 is one in ten. Default 1; 0 to 1.
	SampleSuccesses float64 `yaml:"sample_successes" default:"1" min:"0" max:"1"`
}

// LogUser is how the log names users.
type LogUser string

// The three ways.
const (
	LogPlain LogUser = "plain" // by their id
	LogHash  LogUser = "hash"  // by the first 16 hexadecimal digits of its SHA-256
	LogOmit  LogUser = "omit"  // not at all
)

// maxFile bounds the configuration file, in bytes: a larger one is some other file.
const maxFile = 1 << 20

// Load reads a configuration file of at most 1 MiB, with the environment of the
// process. The error is an [Errors] when the file could be read but is not valid.
func Load(file string) (*Config, error) {
	cfg, _, err := LoadFiles(file)
	return cfg, err
}

// LoadFiles does what Load does, and returns the names of the files that it looked
// at, also with an error: one of them may be what is wrong.
func LoadFiles(file string) (cfg *Config, files []string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, []string{file}, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, []string{file}, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(data) > maxFile {
		return nil, []string{file}, fmt.Errorf("reading the configuration: %s is larger than 1 MiB", file)
	}
	return parse(file, data, os.LookupEnv)
}

// Parse reads a configuration from memory. file is its name in messages, and
// relative paths are relative to its folder; lookup finds variables. The error
// is an [Errors].
func Parse(file string, data []byte, lookup func(string) (string, bool)) (*Config, error) {
	cfg, _, err := parse(file, data, lookup)
	return cfg, err
}

func parse(file string, data []byte, lookup func(string) (string, bool)) (*Config, []string, error) {
	src := newSource(file, data)
	if root := parseYAML(src, data); root != nil {
		cfg := new(Config)
		d := decoder{src: src, dir: filepath.Dir(file), lookup: lookup}
		d.decode(root, reflect.ValueOf(cfg).Elem())
		c := checker{src: src, dir: filepath.Dir(file), cfg: cfg}
		c.check()
		cfg.Files = append([]string{file}, src.files...)
		if len(src.errs) == 0 {
			return cfg, cfg.Files, nil
		}
	}
	return nil, append([]string{file}, src.files...), src.sorted()
}
