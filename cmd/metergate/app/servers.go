package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// newPublicServer returns the server of the public listener. Its bounds are about what a
// client can do to a connection before and between requests. How long a request and its
// response may take is up to the handler, because a stream may last for hours.
//
// certificate is called in every handshake, so that a new certificate is in force at
// once while connections stay open. If it is nil, there is no TLS, and therefore no
// HTTP/2.
func newPublicServer(h http.Handler, idleTimeout time.Duration, certificate func() *tls.Certificate, errorLog *log.Logger) *http.Server {
	s := &http.Server{
		Handler:                      h,
		ConnContext:                  withReadHook,
		ReadHeaderTimeout:            10 * time.Second, // also of a TLS handshake
		WriteTimeout:                 time.Minute,      // of what net/http answers itself; package proxy sets its own
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               64 << 10,
		ErrorLog:                     errorLog,
		DisableGeneralOptionsHandler: true, // the gateway answers OPTIONS * itself
		HTTP2: &http.HTTP2Config{
			// As many handlers run for one connection, and at most four times as many
			// requests wait for one. If a client sends more, even if it resets them at once
			// (CVE-2023-44487), net/http closes the connection.
			MaxConcurrentStreams: 250,
			// Each connection keeps a buffer of this size. A whole frame must arrive before
			// the ping below is missed, but 16 KiB in 45 s is very slow.
			MaxReadFrameSize: 16 << 10,
			// How much of a body may wait for a slow upstream, of one request and of all. With the
			// defaults, which are equal, one upload that is not read stops those of all other
			// requests on the connection (golang/go#54330). 4 MiB is more than net/http accepts.
			MaxReceiveBufferPerStream:     256 << 10,
			MaxReceiveBufferPerConnection: 4<<20 - 1,
			// A client that disappeared is noticed after 45 s. So is a client that never ends
			// its header: in the middle of a header it cannot answer a ping.
			SendPingTimeout: 30 * time.Second,
			PingTimeout:     15 * time.Second,
			// For a client that reads nothing.
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

// newAdminServer returns the server of the admin listener, plain HTTP/1.1. Requests are
// small. How long a response may take is up to the handler, because a list of all users
// takes its time.
func newAdminServer(h http.Handler, errorLog *log.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // of the whole request
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          errorLog,
	}
}

// errorLog is where net/http reports faults of clients.
func errorLog(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }

// listen opens the socket of a server; setting is the name of its setting. most bounds the connections.
func (a *App) listen(setting, address string, s *http.Server, most *atomic.Int64) (*listener, error) {
	socket, err := a.options.Sockets.Open(setting, address)
	if err != nil {
		return nil, err
	}
	a.cleanups.add("socket of "+setting, func(context.Context) error {
		if err := socket.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return newListener(socket, s, setting, most, a.options.Log), nil
}

// serve serves l in the background, with TLS where s has it, until stop has shut s down.
func (a *App) serve(name string, s *http.Server, l net.Listener, stop func(context.Context, *http.Server) error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var err error
		if s.TLSConfig != nil {
			err = s.ServeTLS(l, "", "") // the certificates are in TLSConfig
		} else {
			err = s.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) && !a.handingOver.Load() {
			a.failed <- fmt.Errorf("%s: %w", name, err)
		}
	}()
	a.cleanups.add(name, func(ctx context.Context) error {
		err := stop(ctx, s)
		<-ended // at once: the server is closed
		return err
	})
}

// closeWhileLeaving has responses over HTTP/1.1 close their connections once the gateway is to be stopped,
// so that the next request of the client goes elsewhere. Idle connections stay open: a request may be on
// its way on one. A connection of HTTP/2 ends when the listener is shut down, with the requests on it, or,
// when another process takes over, with the next response, which brings a GOAWAY.
func (a *App) closeWhileLeaving(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.draining.Load() && (r.ProtoMajor == 1 || a.handingOver.Load()) && r.Header.Get("Upgrade") == "" {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// drain lets the requests of a server end. When the shutdown timeout is over, it closes
// their connections and returns an error.
//
// A response that is read on to learn its cost may outlive the connection of its client, which is all
// that net/http waits for.
func (a *App) drain(ctx context.Context, s *http.Server) error {
	timeout, inFlight := a.ShutdownTimeout(), a.reloader.builder.inFlight
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := s.Shutdown(bounded)
	if err == nil {
		err = inFlight.WaitForCosts(bounded)
	}
	if err == nil {
		return nil
	}
	inFlight.StopReadingOn()
	s.Close()
	settling, cancel := context.WithTimeout(ctx, settleGrace)
	defer cancel()
	inFlight.WaitForCosts(settling) // what is not settled by then has been charged its min
	return fmt.Errorf("requests were still running after %v: %w", timeout, err)
}

// settleGrace is how long requests that have been cut off may take to settle what they cost. It is a
// part of stopGrace.
const settleGrace = 2 * time.Second

// closeServer closes all connections of a server at once.
func closeServer(_ context.Context, s *http.Server) error { return s.Close() }
