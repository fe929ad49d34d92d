package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"metergate/config"
	"metergate/quota"
)

// tokenVariable holds the token of the admin API. The token cannot be given as an
// argument, because every user of the machine can read those.
const tokenVariable = "METERGATE_ADMIN_TOKEN"

// defaultAdmin is the admin listener of a gateway whose configuration does not say where.
const defaultAdmin = "http://127.0.0.1:9090"

// adminTimeout bounds a request to the admin API that does not list users.
const adminTimeout = 30 * time.Second

// An adminClient sends requests to the admin API of a gateway.
type adminClient struct {
	base, token string
	client      http.Client
	patience    time.Duration // for which putCounts repeats a request
}

// An adminRequest is a request to the admin API.
type adminRequest struct {
	method, path   string
	body           any    // sent as JSON; nil: no body
	lines          []byte // sent as JSON Lines in place of body; nil: none
	idempotencyKey string // empty: none
}

// adminFlag adds -admin.
func adminFlag(f *flag.FlagSet) *string {
	return f.String("admin", defaultAdmin, "`URL` of the admin listener, or unix:PATH of its socket; the token is taken from "+tokenVariable)
}

// jsonFlag adds -json.
func jsonFlag(f *flag.FlagSet) *bool {
	return f.Bool("json", false, "print the JSON object that the admin API returns")
}

// reasonFlag adds -reason.
func reasonFlag(f *flag.FlagSet) *string {
	return f.String("reason", "", "`WHY`, for the user's audit log")
}

func newAdminClient(base string) (*adminClient, error) {
	base, transport, err := reachAdmin(base)
	if err != nil {
		return nil, errUsage("-admin: " + err.Error())
	}
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "":
		return nil, errUsage("-admin: must be a URL like http://127.0.0.1:9090, or unix: and the path of a socket")
	case os.Getenv(tokenVariable) == "":
		return nil, errUsage(tokenVariable + " is not set: it must be the admin.token of the gateway")
	}
	c := &adminClient{base: strings.TrimSuffix(base, "/"), token: os.Getenv(tokenVariable)}
	c.client.Transport = transport
	// A redirect must not carry the token to another host.
	c.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// reachAdmin returns the URL of an admin listener, and how to send requests to it. It is given a URL, or
// unix: and the path of a socket.
func reachAdmin(base string) (string, http.RoundTripper, error) {
	if !strings.HasPrefix(base, "unix:") {
		return base, http.DefaultTransport, nil
	}
	address, err := config.ParseListen(base)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", address.Address)
	}
	return "http://localhost", &http.Transport{DialContext: dial, DisableKeepAlives: true}, err
}

// orgFlag adds -org.
func orgFlag(f *flag.FlagSet) *string {
	return f.String("org", "", "an `ORGANISATION`: USER is a member of it; without USER, what its members share")
}

// An account is whom a command is about: a user, a member of an organisation or, without a user, the
// organisation itself.
type account struct{ org, user string }

// path returns the path of an account in the admin API; below is what follows it, such as "grants".
func (a account) path(below string) string {
	path := "/admin/users/" + url.PathEscape(a.user)
	if a.org != "" {
		path = "/admin/orgs/" + url.PathEscape(a.org)
		if a.user != "" {
			path += "/members/" + url.PathEscape(a.user)
		}
	}
	if below != "" {
		path += "/" + below
	}
	return path
}

// String names the account, such as "user u-17 of organisation acme".
func (a account) String() string {
	switch {
	case a.org == "":
		return "user " + a.user
	case a.user == "":
		return "organisation " + a.org
	}
	return "user " + a.user + " of organisation " + a.org
}

// compare orders accounts by organisation and user.
func (a account) compare(b account) int {
	return cmp.Or(strings.Compare(a.org, b.org), strings.Compare(a.user, b.user))
}

// scope is that of the account.
func (a account) scope() quota.Scope { return quota.ScopeOf(quota.MemberAccount(a.org, a.user)) }

// noun is what the account is of: a user, or an organisation.
func (a account) noun() string {
	if a.user == "" {
		return "organisation"
	}
	return "user"
}

// accountOf takes the account from the arguments and the value of -org, and returns what follows it:
// one argument for each name. With an organisation, the user may be missing.
func (c *console) accountOf(org string, args []string, names ...string) (a account, rest []string, err error) {
	if org != "" && len(args) <= len(names) {
		return account{org: org}, args, c.checkArguments(args, names...)
	}
	if err := c.checkArguments(args, append([]string{"USER"}, names...)...); err != nil {
		return a, nil, err
	}
	return account{org, args[0]}, args[1:], nil
}

// parseAccount parses flags and arguments, of which -org is one, see accountOf.
func (c *console) parseAccount(f *flag.FlagSet, names ...string) (a account, rest []string, err error) {
	org := orgFlag(f)
	args, err := c.parseAny(f)
	if err != nil {
		return a, nil, err
	}
	return c.accountOf(*org, args, names...)
}

// send sends a request and returns its response, whose status is 200. The caller closes
// the body.
func (c *adminClient) send(ctx context.Context, r adminRequest) (*http.Response, error) {
	var body io.Reader
	contentType := ""
	switch {
	case r.lines != nil:
		body, contentType = bytes.NewReader(r.lines), "application/jsonl"
	case r.body != nil:
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body, contentType = bytes.NewReader(text), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if r.idempotencyKey != "" {
		req.Header.Set("Idempotency-Key", r.idempotencyKey)
	}
	res, err := c.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the gateway: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	var problem struct {
		Detail string `json:"detail"`
		Reason string `json:"reason"`
	}
	if json.Unmarshal(text, &problem) != nil || problem.Detail == "" {
		problem.Detail = "The gateway answers " + res.Status + "."
	}
	return nil, &errRefused{text, res.StatusCode, problem.Reason, flagWords.Replace(strings.TrimPrefix(problem.Detail, "body: "))}
}

// flagWords replaces the admin API's header by the flag that sets it.
var flagWords = strings.NewReplacer("an Idempotency-Key", "a -key", "Idempotency-Key", "-key")

// read sends a request and returns the body of its response.
func (c *adminClient) read(r adminRequest) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	res, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the gateway's response: %w", err)
	}
	return text, nil
}

// readJSON sends a request and decodes the body of its response.
func (c *adminClient) readJSON(r adminRequest, into any) error {
	text, err := c.read(r)
	if err != nil {
		return err
	}
	return decodeResponse(text, into)
}

func decodeResponse(text []byte, into any) error {
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("decoding the gateway's response: %w", err)
	}
	return nil
}

// errRefused is an answer of the gateway other than 200.
type errRefused struct {
	body   []byte
	status int
	reason string // for programs; empty: none
	detail string
}

func (e *errRefused) Error() string {
	switch {
	case e.status == http.StatusUnauthorized:
		return "the gateway does not accept the token in " + tokenVariable + ": it must be its admin.token or, for what only reads, its admin.viewer_token"
	case e.status == http.StatusNotFound && e.reason == "": // with a reason, it is the right listener
		return e.detail + " Is -admin the gateway's admin listener?"
	}
	return e.detail
}

// asUsage turns a refusal of what the user wrote into a usage error. Any other error is
// returned as it is.
func (c *console) asUsage(err error) error {
	var refused *errRefused
	if errors.As(err, &refused) && (refused.status == http.StatusBadRequest || refused.status == http.StatusUnprocessableEntity) {
		// What is wrong with the plan of "plan" would be "plan: plan: ...".
		return c.usageError("%s", strings.TrimPrefix(refused.Error(), c.command.name+": "))
	}
	return err
}

// changeUser sends a change of a user and shows the user's state after it.
func (c *console) changeUser(admin string, r adminRequest, asJSON bool) error {
	client, err := newAdminClient(admin)
	if err != nil {
		return err
	}
	text, err := client.read(r)
	if err != nil {
		return c.asUsage(err)
	}
	return c.showUser(text, asJSON)
}
