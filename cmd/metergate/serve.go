package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // the container has no time zones

	"metergate/config"
)

func serve(c *console) error {
	f := c.flags("serve")
	file := configFlag(f)
	if err := c.parse(f); err != nil {
		return err
	}
	cfg, err := load(*file)
	if err != nil {
		return err
	}
	log, level := buildLog(cfg.Log, c.stderr)
	giveRoom()
	stopped := stopSignals()
	hangup := make(chan os.Signal, 1) // one slot: many are one reload
	signal.Notify(hangup, syscall.SIGHUP)
	a, err := startApp(appOptions{cfg: cfg, log: log, level: level,
		load: func() (*config.Config, []string, error) { return config.LoadFiles(*file) }})
	if err != nil {
		return err
	}
	a.announce()
	go func() {
		for {
			select {
			case <-hangup:
				a.reloadAndLog()
			case <-a.stopping:
				return
			}
		}
	}()
	return a.wait(stopped)
}

// stopSignals subscribes to the signals that end the program.
func stopSignals() <-chan os.Signal {
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT)
	return ch
}

// wait returns when the gateway has drained after a signal; a second one, or a
// listener that breaks, ends the wait at once.
func (a *app) wait(signals <-chan os.Signal) error {
	select {
	case err := <-a.failed:
		return errors.Join(err, a.store.Close())
	case s := <-signals:
		a.log.Info("draining", "signal", s.String(), "timeout", a.current.Load().cfg.ShutdownTimeout.String())
	}
	done := make(chan error, 1)
	go func() { done <- a.stop() }()
	select {
	case err := <-done:
		return err
	case <-signals:
		return errors.New("stopped by a second signal; requests in flight were cut off")
	}
}
