package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"metergate/cmd/metergate/app"
	"metergate/cmd/metergate/demoapi"
	"metergate/cmd/metergate/sockets"
	"metergate/config"
	"metergate/quota"
	"metergate/quota/guard"
)

//go:embed demo.yaml
var demoYAML []byte

// A demoUser is a user of the demo, who gets a token.
type demoUser struct {
	name, plan string
	about      string // for the page
	left       int64  // requests left of the plan's first limit at the start; 0: all of them
	samples    int    // how much is used on the sample days, see addSampleDays
}

var (
	alice     = demoUser{name: "alice", plan: "free", about: "100 requests a month", samples: 2}
	bob       = demoUser{name: "bob", plan: "pro", about: "5,000 credits a month", samples: 16}
	carol     = demoUser{name: "carol", plan: "free", about: "starts with 2 requests left", left: 2, samples: 2}
	demoUsers = []demoUser{alice, bob, carol}
)

func demo(c *console) error {
	f := c.flags()
	listen := f.String("listen", "127.0.0.1:8080", "public `ADDR` of the gateway")
	data := f.String("data", "", "`DIR` for the counts (default: a temporary one)")
	upstream := f.String("upstream", "", "run the analysis API alone, on this `ADDR`")
	if _, err := c.parse(f); err != nil {
		return err
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if given["upstream"] && (given["listen"] || given["data"]) {
		return c.usageError("-upstream runs the API alone; -listen and -data are for the gateway")
	}
	if _, _, err := net.SplitHostPort(*listen); err != nil {
		return c.usageError("-listen: must be HOST:PORT, got %q", *listen)
	}
	if given["upstream"] {
		return demoAPI(c, *upstream)
	}
	dir, kept := *data, "kept in "+*data
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "metergate-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		kept = "gone when the demo stops"
	}
	return demoGateway(c, *listen, dir, kept)
}

// demoAPI runs the analysis API alone, until a signal.
func demoAPI(c *console, address string) error {
	stopped := stopSignals()
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("demo: %w", sockets.ListenError("-upstream", address, err))
	}
	api := serveAPI(l, demoapi.Handler())
	fmt.Fprintf(c.stdout, "The analysis API serves on http://%s\n", l.Addr())
	<-stopped
	return api.Close()
}

// demoGateway runs a gateway in front of the analysis API, until a signal. It counts in
// dir; kept says for how long.
func demoGateway(c *console, listen, dir, kept string) error {
	stopped := stopSignals()
	// The API must have its address first: it is in the configuration, whose secret signs
	// the tokens that the API's page hands out.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	if address, err := config.ParseListen(listen); err == nil && address.Network != config.ListenTCP {
		return errUsage("demo: -listen must be HOST:PORT or :PORT, which a browser can reach")
	}
	cfg, err := demoConfig(listen, dir, "http://"+l.Addr().String())
	if err != nil {
		return errUsage(err.Error())
	}
	users, err := signDemoUsers(cfg)
	if err != nil {
		return err
	}
	console := new(atomic.Pointer[string]) // its URL, which is known when the gateway has started
	defer serveAPI(l, demoapi.WithPage(users, console.Load)).Close()
	log := demoLog(c.stderr)
	a := newApp(app.Options{Config: cfg, Log: log})
	if err := a.Start(context.Background()); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := errors.Join(useUp(a.Store(), cfg, carol), addSampleDays(a.Store(), cfg, demoUsers)); err != nil {
		return errors.Join(err, a.Stop())
	}
	consoleURL := "http://" + a.AdminAddr().String() + "/"
	console.Store(&consoleURL)
	tokens := map[string]string{}
	for _, u := range users {
		tokens[u.Name] = u.Token
	}
	printDemo(c.stdout, demoPlaces{
		gateway: "http://" + a.PublicAddr().String(),
		api:     "http://" + l.Addr().String(),
		admin:   "http://" + a.AdminAddr().String(),
		counts:  kept,
		token:   string(cfg.Admin.Token), viewerToken: string(cfg.Admin.ViewerToken),
	}, tokens)
	return runUntil(stopped, a, log)
}

// serveAPI serves the analysis API on l in the background, until the server is closed.
func serveAPI(l net.Listener, h http.Handler) *http.Server {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute}
	go s.Serve(l)
	return s
}

// signDemoUsers signs a token for each user that is valid for a day.
func signDemoUsers(cfg *config.Config) (users []demoapi.User, err error) {
	for _, u := range demoUsers {
		token, err := signToken(cfg, "", tokenHolder{user: u.name, plan: u.plan}, 24*time.Hour)
		if err != nil {
			return nil, err
		}
		users = append(users, demoapi.User{Name: u.name, Plan: u.plan, About: u.about, Token: token})
	}
	return users, nil
}

func demoConfig(listen, dir, upstream string) (*config.Config, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	vars := map[string]string{
		"LISTEN": listen, "DATA": dir, "UPSTREAM": upstream,
		// 52 random characters each, so that nobody else can sign tokens for the demo or use its console.
		"SECRET": quota.NewID() + quota.NewID(), "ADMIN_TOKEN": quota.NewID() + quota.NewID(), "VIEWER_TOKEN": quota.NewID() + quota.NewID(),
	}
	return config.Parse("demo.yaml", demoYAML, func(name string) (string, bool) {
		value, ok := vars[name]
		return value, ok
	})
}

// demoLog returns a log with a line for each request, without the fields that only machines
// read.
func demoLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch a.Key {
			case slog.TimeKey, slog.LevelKey, "request_id", "trace_id", "client", "route", "endpoint", "upstream", "target",
				"bytes", "auth_ms", "reserve_ms", "upstream_ms", "settle_ms":
				return slog.Attr{}
			}
			return a
		},
	}))
}

// useUp makes requests of a user in the store until they have u.left requests left.
func useUp(store *guard.Store, cfg *config.Config, u demoUser) error {
	plans, err := app.Plans(cfg)
	if err != nil {
		return err
	}
	ctx, p := context.Background(), plans[u.plan]
	s, err := store.Read(ctx, u.name, p.OnlyChoice())
	if err != nil {
		return err
	}
	var group errgroup.Group
	for range p.Limits()[0].Amount - u.left - s.Total.Used {
		group.Go(func() error {
			d, err := store.Reserve(ctx, quota.Request{
				ID: quota.NewID(), User: u.name, Endpoint: "analyze", Plans: p.OnlyChoice(), Lease: time.Minute,
			})
			if err != nil || !d.Admitted {
				return err
			}
			_, err = store.Commit(ctx, &d.Reservation)
			return err
		})
	}
	return group.Wait()
}

// pixels is a PNG image of 8 by 8 pixels, in base64.
const pixels = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mPQrjqBFTEMLQkAgJVbQa2tJlAAAAAASUVORK5CYII="

// chatRequest asks for an answer in OpenAI's form.
const chatRequest = `{"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Metergate counts what succeeds and nothing else."}]}`

// demoPlaces says where the parts of the demo are.
type demoPlaces struct {
	gateway, api, admin string // URLs
	counts              string
	token, viewerToken  string // of the console
}

// printDemo says what can be done with the demo; tokens are those of its users.
func printDemo(w io.Writer, at demoPlaces, tokens map[string]string) {
	fmt.Fprintf(w, `Metergate is running. Open its page in a browser:

  %s/

  gateway   %s
  API       %s (behind it)
  admin     %s (the console, /readyz, /metrics)
  counts    %s

Three users, with tokens for a day:

  alice     free: 100 requests a month, 20 of them image-analysis
            %s
  bob       pro: 5000 credits a month, 60 requests a minute
            %s
  carol     free, with two requests left at the first start
            %s

Their charts begin with sample days: made-up requests before today, which count for no limit.

The console, for those who run a gateway, is at the admin address. Sign in there with a token:

  %s/
  change    %s
  only see  %s

Paste these into another terminal. Each ends with the usage line that the UI shows.

# alice makes a call, which is counted
%s
# a call that fails is not counted
%s
# an image also counts for the limit on images
echo %s | base64 -d | %s
# what alice has used
%s
# bob's plan counts credits: an image costs 5, an answer of a model up to 20, everything else 1
echo %s | base64 -d | %s
# a model's streamed answer: 1 credit at its start; its tokens, told at its end, set the price
%s
# carol's last two, and one too many
for i in 1 2 3; do %s; done

Ctrl-C stops the demo. A line for each request:

`, at.gateway, at.gateway, at.api, at.admin, at.counts, tokens["alice"], tokens["bob"], tokens["carol"], at.admin, at.token, at.viewerToken,
		curlLine(at.gateway+"/api/analyze", tokens["alice"], `-d 'Metergate counts what succeeds and nothing else.' `),
		curlLine(at.gateway+"/api/analyze?fail=500", tokens["alice"], `-d 'This one fails.' `),
		pixels,
		curlLine(at.gateway+"/api/image-analysis", tokens["alice"], `-H 'Content-Type: image/png' --data-binary @- `),
		curlLine(at.gateway+"/usage", tokens["alice"], ""),
		pixels,
		curlLine(at.gateway+"/api/image-analysis", tokens["bob"], `-H 'Content-Type: image/png' --data-binary @- `),
		curlLine(at.gateway+"/v1/chat/completions", tokens["bob"], `-N -d '`+chatRequest+`' `),
		curlLine(at.gateway+"/api/report", tokens["carol"], `-d 'Nearly there.' `))
}

// curlLine returns a command line. With args, -w prints the X-Usage header after the
// body; GET /usage has no such header.
func curlLine(url, token, args string) string {
	if args != "" {
		args += `-w 'usage: %header{x-usage}\n' `
	}
	return fmt.Sprintf("curl -sS '%s' %s-H 'Authorization: Bearer %s'", url, args, token)
}
