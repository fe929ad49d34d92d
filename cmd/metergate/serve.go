package main

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
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
	log, level, flush := app.NewLog(cfg.Log, c.stderr)
	defer flush()
	limits := host.Read()
	limits.TuneGC()
	s := &serving{signals: stopSignals(), upgrades: make(chan os.Signal, 1), log: log, options: app.Options{
		Log: log, Level: level, Limits: limits, Sockets: sockets.FromEnvironment(),
		Load: func() (*config.Config, []string, error) { return config.LoadFiles(*file) }}}
	hangup := make(chan os.Signal, 1) // one slot: many SIGHUPs become one reload
	signal.Notify(hangup, syscall.SIGHUP)
	sockets.NotifyHandover(s.upgrades)
	if err := s.begin(cfg); err != nil {
		return err
	}
	go func() {
		for range hangup {
			if s.stopping.Load() {
				log.Warn("this process is stopping; no reload", "signal", "SIGHUP")
				continue
			}
			notifySystemd(log, "RELOADING=1")
			s.app.Load().ReloadFor("SIGHUP")
			notifySystemd(log, "READY=1")
		}
	}()
	return s.run()
}

// A serving is a process that serves until a signal ends it, or another process takes over.
type serving struct {
	signals  <-chan os.Signal // that stop it
	upgrades chan os.Signal   // that ask for a successor
	log      *slog.Logger
	options  app.Options // of app, but for the configuration
	app      atomic.Pointer[app.App]
	stopping atomic.Bool          // for good
	beside   *sockets.Predecessor // the old process, until it has finished its requests; nil: after that, and without an upgrade
}

// begin starts to serve, in place of the process before if there is one.
func (s *serving) begin(cfg *config.Config) error {
	before := s.options.Sockets.Predecessor()
	o := s.options
	if before != nil {
		if folder, embedded := cfg.Store.Embedded(); embedded && before.Uses(folder) {
			before.AwaitStore()
		} else {
			o.Predecessor, s.beside = before, before
		}
	}
	if err := s.start(o, cfg); err != nil {
		return err
	}
	if before != nil {
		before.Ready() // it tells systemd
		return nil
	}
	notifySystemd(s.log, "READY=1")
	return nil
}

// start starts a gateway.
func (s *serving) start(o app.Options, cfg *config.Config) error {
	o.Config = cfg
	a := newApp(o)
	if err := a.Start(context.Background()); err != nil {
		return err
	}
	o.Sockets.Release() // sockets that this configuration does not need
	s.app.Store(a)
	a.LogStart()
	return nil
}

// run returns when the gateway has stopped, or when a successor has taken over.
func (s *serving) run() error {
	for {
		select {
		case err := <-s.app.Load().Failed():
			return shutDown(s.signals, s.app.Load(), err)
		case sig := <-s.signals:
			s.refuseOthers()
			return stopFor(sig, s.signals, s.app.Load(), s.log)
		case <-s.upgrades:
			if done, err := s.upgrade(); done || err != nil {
				return err
			}
		}
	}
}

// refuseOthers refuses the other signals from now on: the process is stopping.
func (s *serving) refuseOthers() {
	s.stopping.Store(true)
	go func() {
		for range s.upgrades {
			s.log.Warn("this process is stopping; no upgrade", "signal", "SIGUSR2")
		}
	}()
}

// finish hands over to a successor, lets the requests in flight finish, and stops. The first signal changes
// nothing for them, and is told to told; the second one cuts them off.
func (s *serving) finish(a *app.App, beside bool, told func(os.Signal)) error {
	done := make(chan error, 1)
	go func() {
		a.HandOver(beside)
		done <- a.Stop()
	}()
	for first := true; ; first = false {
		select {
		case err := <-done:
			return err
		case sig := <-s.signals:
			if !first {
				return errCutOff
			}
			told(sig)
		}
	}
}

// upgrade starts the program again, as it is on disk now, and lets it take over. It is not done if the new
// process does not come to serve: this one then serves on. After an error it cannot.
func (s *serving) upgrade() (done bool, err error) {
	failed := func(err error) (bool, error) {
		s.options.Sockets.Release()
		s.log.Error("the upgrade failed; this process serves on", "error", err)
		return false, nil
	}
	if os.Getpid() == 1 {
		return failed(errors.New("this is process 1 of a container, which ends with it; start another container instead"))
	}
	if s.beside != nil && s.beside.Runs() {
		return failed(fmt.Errorf("the process before (pid %d) still finishes its requests; try again when it has ended", s.beside.PID))
	}
	program, err := sockets.Program()
	if err != nil {
		return failed(err)
	}
	a, set := s.app.Load(), s.options.Sockets
	if err := set.KeepOpen(); err != nil {
		return failed(err)
	}
	next, err := set.StartSuccessor(program, os.Args[1:], a.Given())
	if err != nil {
		return failed(err)
	}
	s.log.Info("an upgrade begins: a new process has been started", "program", program, "new_pid", next.PID)
	word, sig, err := s.await(next)
	switch {
	case sig != nil:
		s.refuseOthers()
		return true, stopFor(sig, s.signals, a, s.log)
	case err != nil:
		return failed(err)
	case word == sockets.Prepared:
		return s.giveStore(next)
	}
	s.leaveTo(next)
	set.Release()
	s.log.Info("the new process serves; this one finishes its requests", "new_pid", next.PID, "timeout", a.ShutdownTimeout().String())
	s.refuseOthers()
	return true, s.finish(a, true, func(sig os.Signal) {
		s.log.Info("this process finishes its requests already; another signal cuts them off", "signal", sig.String())
	})
}

// giveStore is an upgrade where both processes need the same embedded store. Clients wait from when this one
// stops accepting connections until the other one has opened the store.
func (s *serving) giveStore(next *sockets.Successor) (done bool, err error) {
	a := s.app.Load()
	s.log.Info("the new process waits for the store; this one finishes its requests, and new connections wait", "new_pid", next.PID, "timeout", a.ShutdownTimeout().String())
	cfg := a.Config()
	s.options.Sockets.KeepFiles()
	stop := false
	err = s.finish(a, false, func(sig os.Signal) {
		s.log.Info("draining: the upgrade has ended, and another signal cuts the requests off", "signal", sig.String())
		stop = true
		next.Kill()
	})
	switch {
	case stop:
		return true, err
	case err != nil:
		s.log.Warn("this process did not stop in time", "error", err)
	}
	next.Go()
	_, sig, err := s.await(next)
	switch {
	case sig != nil:
		return true, nil // everything has stopped
	case err == nil:
		s.leaveTo(next)
		return true, nil
	}
	s.log.Error("the upgrade failed; this process starts again", "error", err)
	return false, s.start(s.options, cfg)
}

// leaveTo lets a successor be the process that systemd knows, and leaves the files of sockets to it.
func (s *serving) leaveTo(next *sockets.Successor) {
	s.options.Sockets.KeepFiles()
	notifySystemd(s.log, "MAINPID="+strconv.Itoa(next.PID), "READY=1")
	next.Leave()
}

// await waits for a word of a successor. After a signal, which is returned, or an error the successor has
// ended.
func (s *serving) await(next *sockets.Successor) (word string, stop os.Signal, err error) {
	select {
	case word, ok := <-next.Words():
		if !ok {
			return "", nil, fmt.Errorf("the new process ended before it served (%s); the lines above say why", next.Wait())
		}
		return word, nil, nil
	case <-time.After(sockets.SuccessorTimeout):
		next.Kill()
		return "", nil, fmt.Errorf("the new process did not serve within %v, and was killed", sockets.SuccessorTimeout)
	case sig := <-s.signals:
		next.Kill()
		return "", sig, nil
	}
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
	select {
	case err := <-a.Failed():
		return shutDown(signals, a, err)
	case sig := <-signals:
		return stopFor(sig, signals, a, log)
	}
}

// stopFor stops the gateway because of a signal, after shutdown_delay.
func stopFor(sig os.Signal, signals <-chan os.Signal, a *app.App, log *slog.Logger) error {
	notifySystemd(log, "STOPPING=1")
	if delay := a.ShutdownDelay(); delay > 0 {
		a.Leave()
		log.Info("leaving: /readyz answers 503, and requests are served on", "signal", sig.String(), "shutdown_delay", delay.String())
		select {
		case err := <-a.Failed():
			return shutDown(signals, a, err)
		case <-signals:
			return errCutOff
		case <-time.After(delay):
		}
	}
	log.Info("draining", "signal", sig.String(), "timeout", a.ShutdownTimeout().String())
	return shutDown(signals, a, nil)
}

// shutDown stops the gateway. A signal makes it return at once. failed is why the gateway stops; nil: it was
// told to.
func shutDown(signals <-chan os.Signal, a *app.App, failed error) error {
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
