package main

import (
	"context"
	"errors"
	stdlog "log"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // the container has no time zones

	"metergate/cmd/metergate/app"
	"metergate/cmd/metergate/host"
	"metergate/cmd/metergate/sockets"
	"metergate/config"
)

func serve(c *console) error {
	f := c.flags()
	file := configFlag(f)
	if _, err := c.parse(f); err != nil {
		return err
	}
	cfg, err := load(*file)
	if err != nil {
		return err
	}
	log, level := app.NewLog(cfg.Log, c.stderr)
	limits := host.Read()
	tuneGC(limits)
	stopped := stopSignals()
	hangup := make(chan os.Signal, 1) // one slot: many SIGHUPs become one reload
	signal.Notify(hangup, syscall.SIGHUP)
	a := newApp(app.Options{Config: cfg, Log: log, Level: level, Limits: limits, Sockets: sockets.FromEnvironment(),
		Load: func() (*config.Config, []string, error) { return config.LoadFiles(*file) }})
	if err := a.Start(context.Background()); err != nil {
		return err
	}
	a.LogStart()
	notifySystemd(log, "READY=1")
	go func() {
		for range hangup {
			notifySystemd(log, "RELOADING=1")
			a.ReloadFor("SIGHUP")
			notifySystemd(log, "READY=1")
		}
	}()
	return runUntil(stopped, a, log)
}

// notifySystemd tells systemd about the state of the gateway.
func notifySystemd(log *slog.Logger, state ...string) {
	if err := sockets.Notify(state...); err != nil {
		log.Warn("systemd could not be told the state of the gateway", "state", strings.Join(state, " "), "error", err)
	}
}

// newApp returns a gateway that knows the version of this program. What net/http says about
// odd responses goes to the gateway's log: net/http writes it to the standard one, and it
// quotes the response.
func newApp(o app.Options) *app.App {
	o.Version, o.Commit = buildVersion()
	stdlog.SetFlags(0)
	stdlog.SetOutput(slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug).Writer())
	return app.New(o)
}

// stopSignals subscribes to the signals that end the program.
func stopSignals() <-chan os.Signal {
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT)
	return ch
}

// runUntil returns when the gateway has stopped gracefully: after a signal, or after a
// listener broke. Another signal makes it return at once.
func runUntil(signals <-chan os.Signal, a *app.App, log *slog.Logger) error {
	var failed error
	select {
	case failed = <-a.Failed():
	case s := <-signals:
		notifySystemd(log, "STOPPING=1")
		if delay := a.ShutdownDelay(); delay > 0 {
			a.Leave()
			log.Info("leaving: /readyz answers 503, and requests are served on", "signal", s.String(), "shutdown_delay", delay.String())
			select {
			case failed = <-a.Failed():
			case <-signals:
				return errCutOff
			case <-time.After(delay):
			}
		}
		log.Info("draining", "signal", s.String(), "timeout", a.ShutdownTimeout().String())
	}
	done := make(chan error, 1)
	go func() { done <- a.Stop() }()
	select {
	case err := <-done:
		return errors.Join(failed, err)
	case <-signals:
		return errors.Join(failed, errCutOff)
	}
}

var errCutOff = errors.New("stopped by a second signal; requests in flight were cut off")
