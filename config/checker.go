package config

// A checker checks the rules that concern several values, and fills in the defaults that
// depend on other values. It ignores a value that could not be decoded: the decoder has
// reported it.
type checker struct {
	src *source
	dir string // the folder of the configuration file
	cfg *Config
	// only are the keys whose values will be read; none: all of them.
	only []string
}

func (c *checker) checkAll() {
	c.checkListeners()
	c.checkTLS()
	c.checkNetworks("trusted_proxies", c.cfg.TrustedProxies)
	c.checkNetworks("proxy_protocol", c.cfg.ProxyProtocol)
	c.checkPassHeaders()
	c.checkMaxInFlight()
	c.checkAdminTokens()
	c.checkStore()
	c.checkHistory()
	c.checkBilling()
	c.checkNotify()
	c.checkTracing()
	c.checkAuth()
	c.checkUpstreams()
	c.checkRoutes()
	c.fillShutdownTimeout()
	c.checkPlans()
	c.checkCORS()
}

// usable reports whether all paths are given and were decoded without a fault.
func (c *checker) usable(paths ...string) bool {
	for _, p := range paths {
		if !c.src.given(p) || c.src.failed[p] {
			return false
		}
	}
	return true
}
