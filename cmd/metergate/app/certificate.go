package app

import (
	"crypto/tls"
	"fmt"
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

// CertificateWarnings loads the certificate of a configuration and returns a warning if
// it is not valid at a time. Error: it cannot be loaded.
func CertificateWarnings(cfg *config.Config, at time.Time) ([]string, error) {
	c, err := buildCertificate(cfg, nil)
	return certificateWarnings(c, at), err
}

// certificateWarnings returns a warning if a certificate is not valid at a time; c may be
// nil. It is not an error: clients can choose to accept such a certificate, but not a
// gateway that does not start.
func certificateWarnings(c *tls.Certificate, at time.Time) []string {
	if c == nil {
		return nil
	}
	const layout = "2006-01-02 15:04 MST"
	switch from, until := c.Leaf.NotBefore.UTC(), c.Leaf.NotAfter.UTC(); {
	case at.After(until):
		return []string{"tls.cert_file: its certificate expired on " + until.Format(layout) + ", and clients refuse it; put a new one there"}
	case at.Before(from):
		return []string{"tls.cert_file: its certificate is not valid before " + from.Format(layout) + ", and clients refuse it until then"}
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
