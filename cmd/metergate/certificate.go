package main

import (
	"crypto/tls"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/config"
)

// buildCertificate loads the certificate of the public listener; nil: it speaks no TLS.
// One that has not changed is taken over: its files may be gone by now.
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

// certificateWarnings say that a certificate is not valid at a time; c may be nil. It is
// no error: a gateway that clients are warned of is better than one that does not start.
func certificateWarnings(c *tls.Certificate, at time.Time) []string {
	if c == nil {
		return nil
	}
	const when = "2006-01-02 15:04 MST"
	switch from, until := c.Leaf.NotBefore.UTC(), c.Leaf.NotAfter.UTC(); {
	case at.After(until):
		return []string{"tls.cert_file: its certificate expired on " + until.Format(when) + ", and clients refuse it; put a new one there"}
	case at.Before(from):
		return []string{"tls.cert_file: its certificate is not valid before " + from.Format(when) + ", and clients refuse it until then"}
	}
	return nil
}

// certificateExpiry shows when the certificate in force ends.
func certificateExpiry(r *reloader) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "metergate_tls_certificate_expiry_timestamp_seconds",
		Help: "When the certificate of the public listener expires.",
	}, func() float64 { return float64(r.current.Load().certificate.Leaf.NotAfter.Unix()) })
}
