package redisclient

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"metergate/quota/rawsocket"
	"metergate/quota/redisstore/redisurl"
)

// connect prepares go-redis's client for a location; closeRedis ends it. It dials nothing
// yet. The caller tells onFailure of calls that fail on connections of its own.
func connect(opt Options, secure *secureDialer) (client redis.UniversalClient, onFailure func(), closeRedis func() error) {
	l := opt.Location
	options := clientOptions(locationOptions(l), secure, opt.Timeout, opt.InFlight)
	options.Protocol = opt.Protocol
	switch {
	case l.Cluster:
		nodes := clusterOptions(options, l.Hosts)
		host, _, _ := net.SplitHostPort(l.Hosts[0])
		nodes.NewClient = (&endpoints{asked: host}).newNode
		cluster := redis.NewClusterClient(nodes)
		// By itself it notices a failover only when a node redirects it. A dead node
		// does not, and would be asked again for up to a minute.
		reload := func() { cluster.ReloadState(context.Background()) }
		cluster.AddHook(hook{sendOnce: true, onFailure: reload})
		return cluster, reload, cluster.Close
	case l.Master != "":
		f := newFailover(l, options, secure, opt.Timeout)
		single := newRedis(options)
		single.AddHook(hook{onFailure: f.checkSoon})
		return single, f.checkSoon, func() error {
			defer f.close()
			return single.Close()
		}
	}
	single := newRedis(options)
	return single, func() {}, single.Close
}

// locationOptions returns what a URL says of one Redis, the first host of several.
func locationOptions(l redisurl.Location) *redis.Options {
	o := &redis.Options{Network: "unix", Addr: l.Unix, Username: l.Username, Password: l.Password, DB: l.Database}
	if l.Unix == "" {
		o.Network, o.Addr = "tcp", l.Hosts[0]
	}
	return o
}

// clientOptions makes go-redis keep the package's promises: one try, and never longer than
// the timeout. By default it sends a script up to four times and ignores deadlines. A nil secure
// stands for connections without TLS.
func clientOptions(o *redis.Options, secure *secureDialer, timeout time.Duration, connections int) *redis.Options {
	o.ContextTimeoutEnabled = true
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.DialTimeout = timeout + setupTimeout
	o.ReadTimeout = timeout + setupTimeout
	o.WriteTimeout = timeout + setupTimeout
	o.PoolSize = connections
	o.PoolTimeout = timeout
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialer := net.Dialer{Timeout: timeout + setupTimeout, KeepAlive: 30 * time.Second}
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if secure == nil {
			return &newConn{Conn: conn, writer: rawsocket.NewWriter(conn), reader: rawsocket.NewReader(conn), explain: func(err error) error { return explainPlain(addr, err) }}, nil
		}
		return secure.handshake(ctx, conn, addr)
	}
	return o
}

// clusterOptions carries the options of one Redis over to a cluster. Redirects are
// followed, up to three for a call, as a moving slot needs. Routing by the server's table
// of commands is off: each call would look into the table under one lock, and while the
// table cannot be fetched, would try to fetch it without regard to the call's deadline.
func clusterOptions(o *redis.Options, nodes []string) *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs:                    nodes,
		Protocol:                 o.Protocol,
		Username:                 o.Username,
		Password:                 o.Password,
		Dialer:                   o.Dialer,
		ContextTimeoutEnabled:    o.ContextTimeoutEnabled,
		MaxRetries:               o.MaxRetries,
		DialerRetries:            o.DialerRetries,
		DialTimeout:              o.DialTimeout,
		ReadTimeout:              o.ReadTimeout,
		WriteTimeout:             o.WriteTimeout,
		PoolSize:                 o.PoolSize,
		PoolTimeout:              o.PoolTimeout,
		DisableIdentity:          o.DisableIdentity,
		MaintNotificationsConfig: o.MaintNotificationsConfig,
		DisableRoutingPolicies:   true,
	}
}

// A hook sees each command of go-redis's client, and how it ended.
type hook struct {
	// sendOnce keeps a cluster's client from sending a command again after a network
	// error. By default it does so up to three times, until the deadline.
	sendOnce bool
	// onFailure is told that a command failed; it does not wait.
	onFailure func()
}

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.sendOnce {
			cmd = noRetry{cmd}
		}
		err := next(ctx, cmd)
		if err != nil && !redis.HasErrorPrefix(err, "NOSCRIPT") {
			h.onFailure()
		}
		return err
	}
}

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// noRetry is a command that is not sent again, except to where a redirect points.
type noRetry struct{ redis.Cmder }

func (noRetry) NoRetry() bool { return true }
