package config

import (
	"log/slog"
	"net/netip"
	"time"
)

// Config is a checked configuration with all defaults filled in.
type Config struct {
	// Where the public listener takes connections: HOST:PORT, or :PORT for all interfaces;
	// unix:PATH for a Unix socket, with the permissions of ?mode=0660, which is the default; or
	// systemd or systemd:NAME for a socket of a socket unit of systemd.
	Listen string `yaml:"listen" default:":8080" as:"address"`
	// How long requests in flight may take to finish when the gateway stops. Default: the
	// longest timeout of all upstreams and routes, plus 10s.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout" min:"1ms" max:"1d"`
	// How long the gateway goes on as before when it is told to stop. Only GET /readyz answers 503
	// meanwhile, and responses over HTTP/1.1 say "Connection: close", so that load balancers and
	// clients move away before the port is closed. shutdown_timeout begins when it is over.
	ShutdownDelay time.Duration `yaml:"shutdown_delay" default:"0s" min:"0s" max:"5m"`
	// How long a client's connection may wait for its next request. Behind a load balancer it
	// must be longer than the load balancer keeps an unused connection, so that the gateway
	// does not close one that is about to be used.
	IdleTimeout time.Duration `yaml:"idle_timeout" default:"2m" min:"1s" max:"1d"`
	// Makes the public listener speak TLS, with HTTP/1.1 and HTTP/2. Without it, the
	// listener speaks plain HTTP/1.1.
	TLS *TLS `yaml:"tls"`
	// The networks or single addresses of the proxies in front of the gateway, each once.
	// The gateway believes the X-Forwarded-* and X-Request-Id headers of requests from
	// there, and removes them from all other requests. unix stands for whoever can connect to the
	// Unix socket of listen. /0 is refused. Default: none.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// The networks or single addresses of load balancers that begin each connection with a header of the
	// PROXY protocol, version 1 or 2, each once. The address in the header is then that of the client
	// everywhere. From there the header is required: without it, the connection is closed. From all other
	// addresses it is a malformed request. unix stands for whoever can connect to the Unix socket of
	// listen. /0 is refused. Default: none.
	ProxyProtocol []netip.Prefix `yaml:"proxy_protocol"`
	// Request headers that reach upstreams from any client, although frameworks believe that
	// a proxy wrote them, and the gateway would remove them. Name a header only if no upstream
	// believes it. Not allowed are those that the gateway sets itself. Default: none.
	PassHeaders []string `yaml:"pass_headers" as:"passed"`
	// How many requests one gateway serves at the same time.
	MaxInFlight MaxInFlight `yaml:"max_in_flight"`
	// The listener for health, metrics and the admin API.
	Admin Admin `yaml:"admin"`
	// Where the counts are kept.
	Store Store `yaml:"store"`
	// Keeps what each user has used on each day, for GET /usage/history. Default: it is not kept.
	History *History `yaml:"history"`
	// Keeps what each user has used in each hour until it is billed, for "metergate bill". Default: it
	// is not kept.
	Billing *Billing `yaml:"billing"`
	// Sends an event to a webhook when a user reaches a percentage of a limit. Default: none is sent.
	Notify *Notify `yaml:"notify"`
	// Sends spans of requests to an OpenTelemetry collector. Default: nothing is traced.
	Tracing *Tracing `yaml:"tracing"`
	// How users are identified.
	Auth Auth `yaml:"auth" required:"true"`
	// The plan of users whose token names no plan, or names one that is not in plans. It
	// must be one of the plans.
	DefaultPlan string `yaml:"default_plan" required:"true"`
	// What users may do, by the name of their plan. At least one; a name has 1 to 64
	// letters, digits, - and _.
	Plans map[string]Plan `yaml:"plans" required:"true"`
	// The time zone in which a day, week, month or year begins: UTC or an IANA name such as
	// Europe/Berlin. Local is refused, because two gateways could then differ.
	Timezone *time.Location `yaml:"timezone" default:"UTC"`
	// The percentage of a limit from which a user is warned: GET /usage then says "warning".
	WarnAt int `yaml:"warn_at" default:"80" min:"1" max:"100"`
	// What a unit is called in the UI, such as credits. Default: units.
	UnitName string `yaml:"unit_name" as:"unitname"`
	// An absolute http or https URL that is sent with the 429 to users who have reached a
	// limit, for an "upgrade your plan" link. A plan can have one of its own. Default: none is sent.
	UpgradeURL string `yaml:"upgrade_url" as:"url"`
	// The services behind the gateway, by name. At least one; names are like those of plans.
	Upstreams map[string]Upstream `yaml:"upstreams" required:"true"`
	// Which requests are forwarded, where to, and what they count as. At least one. Their
	// order has no meaning: the most specific pattern wins. A request that matches none is
	// answered 404.
	Routes []Route `yaml:"routes" required:"true"`
	// Lets browsers on other origins call the gateway. Default: they may not.
	CORS *CORS `yaml:"cors"`
	// What is logged, and how.
	Log Log `yaml:"log"`
	// Files has the names of the files that the configuration was read from: its own, and
	// those with secrets, keys and certificates.
	Files []string
}

// TLS is the certificate of the public listener. Connections use TLS 1.2 or 1.3. The files
// are loaded again when they change.
type TLS struct {
	// A PEM file with the certificate, followed by the intermediate certificates. At most
	// 64 KiB.
	CertFile string `yaml:"cert_file" required:"true" as:"file"`
	// A PEM file with the private key of the certificate, without a password. At most 64
	// KiB.
	KeyFile string `yaml:"key_file" required:"true" as:"file"`
	// Digest is the SHA-256 of the content of both files when they were checked, in
	// hexadecimal. Two configurations differ when a file has changed.
	Digest string
}

// MaxInFlight bounds the requests that one gateway serves at the same time. Above a bound a
// request is answered 503 or 429 at once, and nothing is counted. Streams of GET
// /usage/stream are not included.
type MaxInFlight struct {
	// The bound for all requests together. A waiting request takes about 60 KiB and two file
	// descriptors. Requests on routes with auth: none may use a quarter of it, rounded up.
	// By default it is less than 10000 if the memory of the container or machine, or the limit
	// of open files, is not enough.
	Total int `yaml:"total" default:"10000" min:"1" max:"1000000"`
	// Automatic is true if the file has no total, so that it may be less.
	Automatic bool
	// The bound for the requests of one user. It must not be more than total. With 0, only
	// total counts.
	PerUser int `yaml:"per_user" default:"1000" min:"0" max:"1000000"`
}

// Admin is the listener for health, metrics and the admin API. Health and metrics need no
// token: keep this listener off public networks.
type Admin struct {
	// Where the admin listener takes connections, in any of the forms of listen. It must not be
	// where the public listener does.
	Listen string `yaml:"listen" default:"127.0.0.1:9090" as:"address"`
	// The token that the admin API asks for: at least 16 bytes of printable ASCII without
	// spaces. With fewer than 32, the log and metergate validate warn. Default: none, and the admin API answers 403.
	Token Secret `yaml:"token" as:"token"`
	// A second token, for people who may look and not change anything: it can do what reads, in the
	// admin API and in the console, and gets 403 for everything else. The rules are those of token, from which
	// it must differ, and without which it cannot be set. Default: none.
	ViewerToken Secret `yaml:"viewer_token" as:"token"`
	// Names for which the admin listener answers, such as the service name under which
	// Prometheus reaches it. It always answers for addresses, for localhost and for the name
	// in listen. A request whose Host header has another name is answered 421: a page in
	// the operator's browser may have sent it (DNS rebinding). Default: none.
	Hosts []string `yaml:"hosts" as:"servername"`
}

// Notify says who hears of it when a user reaches a percentage of a limit, by an event as Standard
// Webhooks describes it.
type Notify struct {
	// The URL of your receiver, to which each event is sent with POST: https, or http on this machine.
	// Redirects are not followed.
	URL string `yaml:"url" required:"true" as:"webhook"`
	// The secret by which the receiver knows that an event comes from the gateway: whsec_, followed by 24 to 64
	// random bytes in base64. While you change it, write the new one and the old one with a space
	// between them: the events are then signed with both.
	Secret Secret `yaml:"secret" required:"true" as:"signing"`
	// The thresholds, in percent of what each limit allows. Soft limits get above 100, and so do hard
	// ones with mode: observe, by a smaller plan, by an import or in an outage. At most 20.
	// Default: 80 and 100.
	At []int `yaml:"at" min:"1" max:"1000"`
}

// Tracing says where the spans of requests are sent, with OTLP over HTTP, and of which requests.
type Tracing struct {
	// The http or https URL of an OpenTelemetry collector, or of another program that takes OTLP over HTTP.
	// Spans are sent to /v1/traces below it, or to the URL itself if it ends with /v1/traces.
	URL string `yaml:"url" required:"true" as:"collector"`
	// The share of requests that are traced; 0.1 is one in ten. A request from one of trusted_proxies
	// with a traceparent header is traced if its sampled flag is set.
	Sample float64 `yaml:"sample" default:"0.1" min:"0" max:"1"`
	// The name of this service in traces (service.name).
	Service string `yaml:"service" default:"metergate" as:"service"`
	// Headers that the collector asks for, such as Authorization=Bearer%20abc,X-Tenant=shop: as in the
	// variable OTEL_EXPORTER_OTLP_HEADERS, with a % code for a space, a comma or a percent sign in a value.
	// Default: none.
	Headers Secret `yaml:"headers" as:"otlpheaders"`
	// How long the collector may take to answer. A slow collector delays no request.
	Timeout time.Duration `yaml:"timeout" default:"10s" min:"100ms" max:"1m"`
	// How to speak TLS to an https URL. Default: trust the system's authorities and show no certificate.
	TLS *ClientTLS `yaml:"tls"`
}

// CORS says which other origins may call the gateway from a browser.
type CORS struct {
	// The origins, such as https://app.example.com or http://localhost:5173, or "*" for any
	// origin. In https://*.example.app, the * stands for exactly one label, such as the name of a
	// preview deployment. At least one.
	AllowedOrigins []string `yaml:"allowed_origins" required:"true" as:"origin"`
	// Lets browsers send cookies. It must not be used with "*", nor, if there is an auth.cookie, with
	// a * within an origin. Tokens do not need it.
	AllowCredentials bool `yaml:"allow_credentials"`
}

// Log says what is logged, and how.
type Log struct {
	// The lowest level that is logged.
	Level slog.Level `yaml:"level" default:"info" oneof:"debug, info, warn, error"`
	// The format of the log: json for machines, text for people.
	Format string `yaml:"format" default:"json" oneof:"json, text"`
	// How the log line of a request names its user: by the id (plain), by the first 16
	// hexadecimal digits of the id's SHA-256 (hash), or not at all (omit).
	User LogUser `yaml:"user" default:"plain" oneof:"plain, hash, omit"`
	// The share of requests answered 2xx that get a log line; 0.1 is one in ten. All other
	// requests get a line, and so do observed requests that a plan would have blocked.
	SampleSuccesses float64 `yaml:"sample_successes" default:"1" min:"0" max:"1"`
}

// LogUser is how the log names users.
type LogUser string

// The ways in which the log names users.
const (
	LogPlain LogUser = "plain" // by their id
	LogHash  LogUser = "hash"  // by the first 16 hexadecimal digits of the id's SHA-256
	LogOmit  LogUser = "omit"  // not at all
)
