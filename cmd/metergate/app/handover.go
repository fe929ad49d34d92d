package app

import (
	"context"
	"time"

	"metergate/cmd/metergate/sockets"
	"metergate/config"
)

const (
	// lingerBeside is how long connections may wait for their next request when another process serves
	// already: the response to it closes them. A client that sends a request on a connection that is being
	// closed would get no answer.
	lingerBeside = 10 * time.Second
	// lingerBefore is the same while clients wait for the other process, which needs the store.
	lingerBefore = time.Second
	// lingerLook is how often open connections are looked for meanwhile.
	lingerLook = 20 * time.Millisecond
	// keysLook is how often awaitKeys looks for keys.
	keysLook = 50 * time.Millisecond
)

// Given is what a successor has to know of this gateway.
func (a *App) Given() sockets.Given {
	dir, _ := a.options.Config.Store.Embedded()
	return sockets.Given{StoreFolder: dir, JournalNotes: a.store.JournalNotes()}
}

// Config is the configuration in force.
func (a *App) Config() *config.Config { return a.configInForce() }

// HandOver stops accepting connections, because a successor does, or soon will: beside says that it serves
// already. Streams of usage end, so that their clients open them again there. Responses over HTTP/1.1 close
// their connections, and HandOver waits some seconds for that. Stop has to follow.
func (a *App) HandOver(beside bool) {
	a.handingOver.Store(true)
	a.Leave()
	for _, l := range []*listener{a.public, a.admin} {
		l.handsOver.Store(true)
		l.Close()
	}
	a.streams.End()
	a.events.End()
	linger := lingerBefore
	if beside {
		linger = lingerBeside
	}
	ctx, cancel := context.WithTimeout(context.Background(), linger)
	defer cancel()
	a.adminServe.Shutdown(ctx)
	look := time.NewTicker(lingerLook)
	defer look.Stop()
	for a.public.open.Load() > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

// awaitKeys waits until there are keys by which tokens can be verified, as long as the process before does.
func (a *App) awaitKeys(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sockets.SuccessorTimeout)
	defer cancel()
	look := time.NewTicker(keysLook)
	defer look.Stop()
	for (probes{a}).Waiting() != nil {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}
