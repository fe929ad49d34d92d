package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"metergate/proxy/apikeys"
)

// Cookie says which cookie may have the token, and which pages may use it. Browsers send cookies
// whichever site makes them send a request. So a request with the cookie that may change something,
// or that opens a stream or a WebSocket, must come from one of the origins. Otherwise it is answered
// 403.
type Cookie struct {
	// The name of the cookie. A name that begins with __Host- keeps other hosts of the same domain
	// from setting it.
	Name string `yaml:"name" required:"true" as:"cookiename"`
	// The origins of the pages that may use the cookie, such as https://app.example.com, without
	// any *. A request without an Origin header must have Sec-Fetch-Site: same-origin. At least one.
	Origins []string `yaml:"origins" required:"true" as:"origin"`
}

// APIKeys says which programs may call the gateway without a token.
type APIKeys struct {
	// The YAML file with a line for each key, which metergate key prints. It has at most 64 MiB. It is
	// a part of the configuration, so it is loaded again when it changes. docs/tokens.md explains
	// its lines.
	File string `yaml:"file" required:"true" as:"file"`
	// Keys are those of the file.
	Keys *apikeys.Set
}

const (
	cookiePath  = "auth.cookie"
	originsPath = "auth.cookie.origins"
	keysPath    = "auth.api_keys"
	keyFilePath = "auth.api_keys.file"
)

// checkNoTokens checks a configuration that accepts no tokens.
func (c *checker) checkNoTokens() {
	if c.cfg.Auth.APIKeys == nil && !c.src.failed[keysPath] {
		c.src.reportAt(jwtPath, "is required, unless there are auth.api_keys")
		return
	}
	for _, path := range []string{cookiePath, "auth.query_param"} {
		if c.usable(path) {
			c.src.reportAt(path, "is for tokens, and there is no auth.jwt that says which are accepted; API keys come only in headers")
		}
	}
}

// checkCookie checks the origins, and writes them as browsers do.
func (c *checker) checkCookie() {
	cookie := c.cfg.Auth.Cookie
	if cookie == nil || !c.usable(originsPath) {
		return
	}
	if len(cookie.Origins) == 0 {
		c.src.reportAt(originsPath, "must not be empty; list the origins of your front ends, such as https://app.example.com")
	}
	for i, origin := range cookie.Origins {
		switch path := indexPath(originsPath, i); {
		case !c.usable(path):
		case origin == "*":
			c.src.reportAt(path, `must not be "*", because every site could then act for its visitors; list the origins of your front ends`)
		case strings.Contains(origin, "*"):
			c.src.reportAt(path, "must not have a *, because every page there, such as the preview of any change, could then act for its visitors; list the origins, and let previews send the token in the Authorization header")
		}
		cookie.Origins[i] = normalOrigin(origin)
	}
}

// normalOrigin writes an origin as browsers do: in lower case, and without the port that is usual.
func normalOrigin(origin string) string {
	origin = strings.ToLower(origin)
	for scheme, port := range map[string]string{"https://": ":443", "http://": ":80"} {
		if strings.HasPrefix(origin, scheme) {
			origin = strings.TrimSuffix(origin, port)
		}
	}
	return origin
}

// maxKeyFileBytes bounds the file of the API keys: 100,000 of them take 16 to 24 MiB.
const maxKeyFileBytes = 64 << 20

// checkAPIKeys reads the file of the API keys.
func (c *checker) checkAPIKeys() {
	keys := c.cfg.Auth.APIKeys
	if keys == nil || !c.usable(keysPath, keyFilePath) {
		return
	}
	keys.File = resolvePath(c.dir, keys.File)
	if len(c.only) > 0 && !slices.Contains(c.only, "auth") {
		return // a health check runs every few seconds, and the file may be large
	}
	c.src.files = append(c.src.files, keys.File)
	faults, err := keys.read(func(plan string) bool {
		_, ok := c.cfg.Plans[plan]
		return ok || !c.usable("plans")
	})
	if err != nil {
		c.src.reportAt(keyFilePath, "%v", err)
		return
	}
	for _, f := range faults {
		c.src.failed[keyFilePath] = true
		c.src.errs = append(c.src.errs, &Error{keys.File, f.Line, "", f.Message, keyFilePath})
	}
}

// read reads the file line by line. An error shows no name.
func (k *APIKeys) read(hasPlan func(string) bool) ([]apikeys.Fault, error) {
	if err := checkFile(k.File, maxKeyFileBytes); err != nil {
		return nil, err
	}
	file, err := os.Open(k.File)
	if err != nil {
		return nil, fileError(err)
	}
	defer file.Close()
	var faults []apikeys.Fault
	if k.Keys, faults, err = apikeys.Read(file, hasPlan); err != nil {
		return nil, fileError(err)
	}
	return faults, nil
}

// authWarnings names API keys that have expired, and what keeps browsers from sending the cookie.
func (c *Config) authWarnings() (warnings []string) {
	var expired []apikeys.Key
	if c.Auth.APIKeys != nil {
		for _, k := range c.Auth.APIKeys.Keys.Keys() {
			if !k.Expires.IsZero() && !time.Now().Before(k.Expires) {
				expired = append(expired, k)
			}
		}
	}
	switch n := len(expired); {
	case n == 1:
		warnings = append(warnings, fmt.Sprintf("%s:%d: the API key %s has expired on %s, and is refused; remove its line", c.Auth.APIKeys.File, expired[0].Line, expired[0].ID, expired[0].ExpiryText()))
	case n > 1:
		warnings = append(warnings, fmt.Sprintf("%s:%d: the API key %s and %d more have expired, and are refused; remove their lines", c.Auth.APIKeys.File, expired[0].Line, expired[0].ID, n-1))
	}
	if c.Auth.Cookie == nil || c.CORS == nil {
		return warnings
	}
	if !c.CORS.AllowCredentials {
		return append(warnings, "auth.cookie: browsers send the cookie from other origins only with cors.allow_credentials: true, which is not set; pages of the gateway's own origin can use it")
	}
	for _, origin := range c.Auth.Cookie.Origins {
		if !slices.ContainsFunc(c.CORS.AllowedOrigins, func(allowed string) bool { return normalOrigin(allowed) == origin }) {
			warnings = append(warnings, fmt.Sprintf("auth.cookie.origins: %s is not in cors.allowed_origins, so pages there cannot read answers, unless it is the gateway's own origin", origin))
		}
	}
	return warnings
}
