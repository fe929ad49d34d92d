package app

import (
	"fmt"

	"metergate/cmd/metergate/host"
	"metergate/config"
	"metergate/proxy/admin"
)

// What a gateway needs, in bytes. Measured with and without TLS, with the kernel's part: a
// request whose response is being read takes 65 to 90 KiB, an idle connection 15 to 25 KiB and
// with TLS 45 KiB, a stream of usage 40 KiB. A token of 16 KiB adds 20 KiB; if all requests have
// one, they need what is otherwise left for garbage.
const (
	processBytes       = 20 << 20
	requestBytes       = 80 << 10 // with its connections
	connectionBytes    = 24 << 10 // idle
	tlsConnectionBytes = 48 << 10
)

// memoryShare is the part of the memory limit, in percent, that capacity plans with. The rest
// is for garbage and for what Go does not see.
const memoryShare = 72

const (
	// ownDescriptors are for the files and the connections of the gateway itself: store,
	// journal, log, configuration, key server, and the admin listener.
	ownDescriptors = 64
	// maxAdminConnections bounds the connections to the admin listener. Streams of events, which need an admin
	// token, come on top.
	maxAdminConnections = 16
	// fewRequests is a bound that deserves a warning, if it follows from the descriptors.
	fewRequests = 1000
	minRequests = 8
)

// A capacity is how much a gateway takes on at once, so that neither memory nor file
// descriptors run out. 0: there is no bound.
type capacity struct {
	requests            int // that are being served; never 0
	connections         int // from clients to the public listener
	adminConnections    int
	upstreamConnections int
	warnings            []string
}

// capacityOf returns what a configuration and the limits of the process allow.
func capacityOf(cfg *config.Config, limits host.Limits) capacity {
	targets := 0
	for _, u := range cfg.Upstreams {
		targets += len(u.Targets)
	}
	c := capacity{requests: cfg.MaxInFlight.Total}
	c.fitMemory(cfg, limits)
	c.fitDescriptors(cfg, limits.Descriptors, targets)
	return c
}

// fitMemory bounds the requests if the configuration does not, and the idle connections beside
// them.
func (c *capacity) fitMemory(cfg *config.Config, limits host.Limits) {
	if limits.Memory == 0 {
		return
	}
	request, connection := int64(requestBytes), int64(connectionBytes)
	if cfg.TLS != nil {
		request, connection = request-connection+tlsConnectionBytes, tlsConnectionBytes
	}
	free := max(0, int64(limits.Memory/100*memoryShare)-processBytes)
	fit := max(minRequests, int(free*4/5/request))
	switch {
	case cfg.MaxInFlight.Automatic:
		c.requests = min(c.requests, fit)
	case c.requests > fit:
		needed := (int64(c.requests)*request*5/4 + processBytes) / memoryShare * 100
		c.warnings = append(c.warnings, fmt.Sprintf("max_in_flight.total is %d, but %s has %d MiB of memory, which is enough for about %d requests: lower it, remove it, or allow the gateway %d MiB",
			c.requests, limits.MemoryFrom, limits.Memory>>20, fit, needed>>20+1))
	}
	c.connections = c.requests + max(minRequests, int((free-int64(c.requests)*request)/connection))
}

// fitDescriptors bounds requests and connections. A request needs two descriptors: for its
// client and for its target.
func (c *capacity) fitDescriptors(cfg *config.Config, descriptors, targets int) {
	if descriptors == 0 {
		return
	}
	eventStreams := 0
	if cfg.Admin.Token != "" {
		eventStreams = admin.MaxEventStreams
	}
	own := ownDescriptors + targets + eventStreams // each target may have a health check under way
	needed := own + 2*c.requests
	fit := max(1, (descriptors-own)/2)
	if c.requests > fit {
		if !cfg.MaxInFlight.Automatic || fit < fewRequests {
			c.warnings = append(c.warnings, fmt.Sprintf("only %d files may be open, which is enough for %d requests at once, not for the %d of max_in_flight.total: "+
				"allow at least %d, with LimitNOFILE=%[4]d in the systemd unit, docker run --ulimit nofile=%[4]d, or ulimit -n %[4]d",
				descriptors, fit, c.requests, needed))
		}
		c.requests = fit
	}
	c.adminConnections, c.upstreamConnections = maxAdminConnections+eventStreams, c.requests+targets
	most := max(fit, descriptors-own-c.requests)
	if c.connections == 0 || c.connections > most {
		c.connections = most
	}
}

// apply puts the bounds of a capacity in force.
func (b *builder) apply(c capacity) {
	b.maxConnections.Store(int64(c.connections))
	b.maxAdminConnections.Store(int64(c.adminConnections))
	b.upstreamConnections.SetMax(c.upstreamConnections)
}
