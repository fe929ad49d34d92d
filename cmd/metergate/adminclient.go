package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"metergate/quota"
)

// tokenVariable has the token of the admin API. It is no argument: those can be read by
// every user of the machine.
const tokenVariable = "METERGATE_ADMIN_TOKEN"

// adminTimeout bounds a call of the admin API that does not list users.
const adminTimeout = 30 * time.Second

// An adminClient calls the admin API of a gateway.
type adminClient struct {
	base, token string
	client      http.Client
}

// adminFlag adds -admin.
func adminFlag(f *flag.FlagSet) *string {
	return f.String("admin", "http://127.0.0.1:9090", "`URL` of the admin listener; the token is taken from "+tokenVariable)
}

func newAdminClient(base string) (*adminClient, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "":
		return nil, errUsage("-admin: must be a URL like http://127.0.0.1:9090")
	case os.Getenv(tokenVariable) == "":
		return nil, errUsage(tokenVariable + " is not set: it must be the admin.token of the gateway")
	}
	c := &adminClient{base: strings.TrimSuffix(base, "/"), token: os.Getenv(tokenVariable)}
	c.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the token stays here
	return c, nil
}

// userPath is the path of a user's resource; what is empty for the user himself.
func userPath(user, what string) string {
	path := "/admin/users/" + url.PathEscape(user)
	if what != "" {
		path += "/" + what
	}
	return path
}

// errRefused: the gateway has refused what it was asked.
type errRefused struct {
	status int
	detail string
}

func (e *errRefused) Error() string {
	switch e.status {
	case http.StatusUnauthorized:
		return "the token in " + tokenVariable + " is not the admin.token of the gateway"
	case http.StatusNotFound:
		return e.detail + " Is -admin the gateway's admin listener?"
	}
	return e.detail
}

// usage reports whether it was asked for something wrong: then the gateway is well.
func (e *errRefused) usage() bool { return e.status == 400 || e.status == 422 }

// open makes a request and returns its response, which is 200. The body of the request,
// if it is not nil, is sent as JSON.
func (c *adminClient) open(ctx context.Context, method, path string, body any, key string) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := c.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the gateway: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	var problem struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(text, &problem) != nil || problem.Detail == "" {
		problem.Detail = "The gateway answers " + res.Status + "."
	}
	return nil, &errRefused{res.StatusCode, problem.Detail}
}

// call makes a request and returns what is answered.
func (c *adminClient) call(method, path string, body any, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	res, err := c.open(ctx, method, path, body, key)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return text, nil
}

// asUsage makes wrong usage of a refusal of what the user has written.
func asUsage(command string, err error) error {
	var refused *errRefused
	if errors.As(err, &refused) && refused.usage() {
		return errUsage(command + ": " + refused.Error())
	}
	return err
}

// arguments parses flags and other arguments, which may come in any order; what follows
// "--" is no flag. There must be one for each name.
func (c *console) arguments(f *flag.FlagSet, names ...string) ([]string, error) {
	var values []string
	for rest := c.args; ; {
		if err := f.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, errShown // the flag package has said it
		}
		if f.NArg() == 0 {
			break
		}
		if parsed := len(rest) - f.NArg(); parsed > 0 && rest[parsed-1] == "--" {
			values = append(values, f.Args()...)
			break
		}
		values, rest = append(values, f.Arg(0)), f.Args()[1:]
	}
	if len(values) < len(names) {
		return nil, errUsage(fmt.Sprintf("%s: %s is needed", f.Name(), strings.Join(names[len(values):], " and ")))
	}
	if len(values) > len(names) {
		return nil, errUsage(fmt.Sprintf("%s: unexpected argument %q", f.Name(), values[len(names)]))
	}
	return values, nil
}

// An adminUser is what the admin API says of a user.
type adminUser struct {
	quota.Usage
	Window   string
	Claimed  *string
	Override *struct {
		Plan  string
		Until *time.Time
	}
	Granted []struct {
		Endpoint string
		Per      quota.Period
		Requests int64
	}
}

// showUser prints what the admin API has answered, as it is or for people.
func (c *console) showUser(answer []byte, asJSON bool) error {
	if asJSON {
		_, err := c.stdout.Write(answer)
		return err
	}
	var u adminUser
	if err := json.Unmarshal(answer, &u); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	u.print(c.stdout)
	return nil
}
