package main

import (
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"time"
)

// publicServer serves the public listener. What it bounds is what a client can do to a
// connection before there is a request, and between requests: how long a request and
// its response may take is the handler's to say, for a stream may last for hours.
//
// certificate is asked in every handshake, so that another one is in force at once and
// connections go on; nil: no TLS, and then no HTTP/2, which needs it.
func publicServer(h http.Handler, certificate func() *tls.Certificate, errorLog *log.Logger) *http.Server {
	s := &http.Server{
		Handler:                      h,
		ReadHeaderTimeout:            10 * time.Second, // and a TLS handshake's
		WriteTimeout:                 time.Minute,      // for what net/http answers itself; package proxy has its own
		IdleTimeout:                  2 * time.Minute,
		MaxHeaderBytes:               64 << 10,
		ErrorLog:                     errorLog,
		DisableGeneralOptionsHandler: true, // OPTIONS * is not answered behind the gateway's back
		HTTP2: &http.HTTP2Config{
			// As many handlers run for one connection, and no more than four times
			// as many requests wait for one: with more, and be they reset at once
			// (CVE-2023-44487), net/http closes the connection.
			MaxConcurrentStreams: 250,
			// A connection keeps a buffer of this size, and a frame has to be there
			// before the ping below is missed: 16 KiB in 45 s is no speed at all.
			MaxReadFrameSize: 16 << 10,
			// A client that is gone without a word is noticed after 45 s, and so is
			// one that never ends its header: in the middle of that it cannot answer.
			SendPingTimeout: 30 * time.Second,
			PingTimeout:     15 * time.Second,
			// Of a connection that takes not one byte.
			WriteByteTimeout: 30 * time.Second,
		},
	}
	if certificate != nil {
		s.TLSConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate(), nil },
		}
	}
	return s
}

// adminServer serves the admin listener, plain HTTP/1.1. Requests are small; how long a
// response may take is the handler's to say, for a list of all users takes its time.
func adminServer(h http.Handler, errorLog *log.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // of the whole request
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          errorLog,
	}
}

// serve serves l, with TLS where s has that, until it is closed.
func (a *app) serve(s *http.Server, l net.Listener) {
	var err error
	if s.TLSConfig != nil {
		err = s.ServeTLS(l, "", "") // its certificates are in TLSConfig
	} else {
		err = s.Serve(l)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		a.failed <- err
	}
}
