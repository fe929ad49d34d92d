package config

import (
	"errors"
	"strings"
	"time"

	"metergate/quota/redisstore/redisurl"
)

// Store is where the gateway keeps its counts.
type Store struct {
	// The store: embedded:DIR, redis://[USER:PASSWORD@]HOST[:PORT][/DB],
	// unix:///PATH[?db=DB], redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT or
	// redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/NAME[/DB]. The schemes rediss,
	// rediss+cluster and rediss+sentinel use TLS.
	URL Secret `yaml:"url" default:"embedded:./data" as:"store"`
	// How to speak TLS to Redis, for the schemes that use TLS. Default: trust the system's
	// authorities and show no certificate.
	TLS *ClientTLS `yaml:"tls"`
	// The version of Redis's protocol, RESP2 or RESP3. With 3, the gateway uses 2 on a server
	// that knows no other.
	Protocol int `yaml:"protocol" default:"3" min:"2" max:"3"`
	// The first part of every key in Redis: 1 to 64 letters, digits and any of _ . : -
	Prefix string `yaml:"prefix" default:"metergate" as:"prefix"`
	// The longest time that a request waits for one answer of the store.
	Timeout time.Duration `yaml:"timeout" default:"250ms" min:"1ms" max:"60s"`
	// What happens to a metered request when the store does not answer: it is forwarded
	// (allow), or answered 503 (deny).
	OnFailure OnFailure `yaml:"on_failure" default:"allow" oneof:"allow, deny"`
	// What happens when Redis has lost its counts: it was emptied, it restarted without its data, an
	// old backup was restored, or another Redis took its place. Users go on with the counts that are
	// there (continue), or metered requests are answered 503 until "metergate accept-data" is run
	// (deny). The embedded store does not use it.
	OnDataLoss OnDataLoss `yaml:"on_data_loss" default:"continue" oneof:"continue, deny"`
	// A folder in which counts wait for a Redis that does not answer. It must be writable,
	// and each gateway needs a folder of its own. The embedded store does not use it.
	Journal string `yaml:"journal" default:"./data/journal" as:"folder"`
	// How long the counts of past windows can still be read.
	Keep time.Duration `yaml:"keep" default:"400d" min:"1d"`
}

// History says for how long it is kept what users have used on each day.
type History struct {
	// How many days are kept, today included: whole days, such as 35d. Days begin at midnight in
	// timezone. Nothing is known of the days before the first start with this key.
	Keep time.Duration `yaml:"keep" required:"true" min:"1d" max:"400d"`
}

// Billing says for how long it is kept for billing what users have used in each hour.
type Billing struct {
	// How long an hour is kept that is not billed yet: whole hours. What arrives later for it, or is not
	// billed by then, is never billed. Hours are those of UTC.
	Keep time.Duration `yaml:"keep" default:"7d" min:"1d" max:"35d"`
}

const day = 24 * time.Hour

// HistoryDays is the number of days that are kept, at most quota.MaxHistory; 0: no history is kept.
func (c *Config) HistoryDays() int {
	if c.History == nil {
		return 0
	}
	return int(c.History.Keep / day)
}

func (c *checker) checkHistory() {
	const path = "history.keep"
	if h := c.cfg.History; h != nil && c.usable(path) && h.Keep%day != 0 {
		c.src.reportAt(path, "must be whole days, such as %dd%s", h.Keep/day, c.src.got(path))
	}
}

// BillingHours is the number of hours that are kept for billing, at most quota.MaxBillingHours; 0: none is.
func (c *Config) BillingHours() int {
	if c.Billing == nil {
		return 0
	}
	return int(c.Billing.Keep / time.Hour)
}

func (c *checker) checkBilling() {
	const path = "billing.keep"
	if b := c.cfg.Billing; b != nil && c.usable(path) && b.Keep%time.Hour != 0 {
		c.src.reportAt(path, "must be whole hours, such as %dh%s", b.Keep/time.Hour, c.src.got(path))
	}
}

const embeddedScheme = "embedded:"

// Embedded returns the folder of the embedded store. ok is false if the store is a Redis.
func (s Store) Embedded() (dir string, ok bool) {
	return strings.CutPrefix(string(s.URL), embeddedScheme)
}

// OnFailure says what to do with a metered request when the store does not answer.
type OnFailure string

// The values of OnFailure.
const (
	Allow OnFailure = "allow" // forward the request
	Deny  OnFailure = "deny"  // refuse the request with 503
)

// OnDataLoss says what to do when Redis has lost its counts.
type OnDataLoss string

// The values of OnDataLoss.
const (
	ContinueAfterLoss OnDataLoss = "continue" // go on with the counts that are there
	DenyAfterLoss     OnDataLoss = "deny"     // refuse metered requests until they are accepted
)

func (c *checker) checkStore() {
	c.cfg.Store.Journal = resolvePath(c.dir, c.cfg.Store.Journal)
	isTLS := true // as far as is known
	if !c.src.failed["store.url"] {
		isTLS = c.checkStoreURL("store.url")
	}
	const path = "store.tls"
	if t := c.cfg.Store.TLS; t != nil && c.usable(path) {
		if !isTLS {
			c.src.reportAt(path, "is only for Redis over TLS, and store.url does not use TLS; write rediss://, rediss+cluster:// or rediss+sentinel:// there, or remove this key")
		}
		c.checkClientTLS(path, t)
	}
}

// checkStoreURL checks the URL of the store. It returns false if the URL is valid and does not
// use TLS.
func (c *checker) checkStoreURL(path string) (mayUseTLS bool) {
	s := &c.cfg.Store
	if dir, ok := s.Embedded(); ok {
		if dir == "" || strings.HasPrefix(dir, "//") {
			c.src.reportAt(path, "must be embedded:DIR, such as embedded:./data or embedded:/var/lib/metergate")
			return true
		}
		s.URL = Secret(embeddedScheme + resolvePath(c.dir, dir))
		return false
	}
	location, err := redisurl.Parse(string(s.URL))
	switch {
	case errors.Is(err, redisurl.ErrScheme):
		c.src.reportAt(path, "must be embedded:DIR, %s", redisurl.Forms)
	case err != nil:
		c.src.reportAt(path, "%v", err)
	}
	return err != nil || location.TLS
}
