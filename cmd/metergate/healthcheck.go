package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Bounds of one question of healthcheck, and the pause before it asks again.
const (
	healthTimeout = 5 * time.Second
	healthPause   = 50 * time.Millisecond
)

func healthcheck(c *console) error {
	f := c.flags()
	admin := f.String("admin", "http://127.0.0.1:9090", "`URL` of the admin listener")
	wait := f.Duration("wait", 0, "ask again until the gateway is ready, for this `TIME` at most, such as 10s")
	if _, err := c.parse(f); err != nil {
		return err
	}
	if *wait < 0 {
		return c.usageError("-wait must not be negative")
	}
	url := strings.TrimSuffix(*admin, "/") + "/readyz"
	if _, err := http.NewRequest(http.MethodGet, url, nil); err != nil {
		return c.usageError("-admin: %v", err)
	}
	deadline := time.Now().Add(*wait)
	for {
		body, err := askReady(url)
		if err == nil {
			_, err = c.stdout.Write(body)
			return err
		}
		if time.Until(deadline) <= 0 {
			if *wait > 0 {
				return fmt.Errorf("not ready after %v: %w", *wait, err)
			}
			return fmt.Errorf("not ready: %w", err)
		}
		time.Sleep(healthPause)
	}
}

// askReady returns the answer of a gateway that is ready, and otherwise the reason why it
// is not.
func askReady(url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", res.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}
