package app

import (
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/config"
)

// buildCertificate loads the certificate of the public listener; nil: no TLS. If it has
// not changed, it is taken over from the generation before: its files may be gone by now.
func buildCertificate(cfg *config.Config, before *generation) (*tls.Certificate, error) {
	if cfg.TLS == nil {
		return nil, nil
	}
	if before != nil && before.cfg.TLS != nil && before.cfg.TLS.Digest == cfg.TLS.Digest {
		return before.certificate, nil
	}
	c, err := cfg.TLS.Certificate()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return c, nil
}

// CertificateWarnings loads the certificates that a gateway with this configuration shows, and
// returns a warning for each that is not valid at a time. Error: the one of the public listener
// cannot be loaded.
func CertificateWarnings(cfg *config.Config, at time.Time) ([]string, error) {
	c, err := buildCertificate(cfg, nil)
	return certificateWarnings(cfg, c, at), err
}

// certificateWarnings returns a warning for each certificate that is not valid at a time; that
// of the public listener may be nil. It is not an error: the other side can choose to accept
// such a certificate, but not a gateway that does not start.
func certificateWarnings(cfg *config.Config, listener *tls.Certificate, at time.Time) (warnings []string) {
	if listener != nil {
		warnings = expiryWarnings("tls", "clients refuse", listener, at)
	}
	warnings = append(warnings, clientExpiryWarnings("store.tls", "Redis refuses", cfg.Store.TLS, at)...)
	for _, name := range slices.Sorted(maps.Keys(cfg.Upstreams)) {
		warnings = append(warnings, clientExpiryWarnings("upstreams."+name+".tls", "targets refuse", cfg.Upstreams[name].TLS, at)...)
	}
	return warnings
}

func clientExpiryWarnings(path, refuse string, t *config.ClientTLS, at time.Time) []string {
	c, err := t.Client()
	if err != nil || c == nil || len(c.Certificates) == 0 { // with an error: it has changed, and is loaded again
		return nil
	}
	return expiryWarnings(path, refuse, &c.Certificates[0], at)
}

// expiryWarnings returns a warning if a certificate is not valid at a time.
func expiryWarnings(path, refuse string, c *tls.Certificate, at time.Time) []string {
	const layout = "2006-01-02 15:04 MST"
	switch from, until := c.Leaf.NotBefore.UTC(), c.Leaf.NotAfter.UTC(); {
	case at.After(until):
		return []string{path + ".cert_file: its certificate expired on " + until.Format(layout) + ", and " + refuse + " it; put a new one there"}
	case at.Before(from):
		return []string{path + ".cert_file: its certificate is not valid before " + from.Format(layout) + ", and " + refuse + " it until then"}
	}
	return nil
}

// certificateExpiry is the metric that says when the certificate in force expires.
func certificateExpiry(r *reloader) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "metergate_tls_certificate_expiry_timestamp_seconds",
		Help: "When the certificate of the public listener expires.",
	}, func() float64 { return float64(r.current.Load().certificate.Leaf.NotAfter.Unix()) })
}
