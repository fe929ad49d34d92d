package redisclient

import (
	"context"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"
)

// A router knows the pipeline for each key. In a cluster it learns them slot by slot from
// go-redis, which knows the cluster. A route holds as long as its calls get answers: after
// a failure, or a reply that is an error, go-redis is asked again.
type router struct {
	routes []atomic.Pointer[pipeline] // one for each slot of a cluster, or a single one
	// A caller who waits for a new route or connection may give up. The work goes on.
	connecting singleflight.Group // by slot
	dialing    singleflight.Group // by the address of a Redis
	ctx        context.Context    // ends when close is called
	cancel     context.CancelFunc
	attendants sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	pipelines map[*pipeline]string // all that have not ended, with the address of their Redis
}

func newRouter(client redis.UniversalClient) *router {
	n := 1
	if _, ok := client.(*redis.ClusterClient); ok {
		n = slots
	}
	r := &router{routes: make([]atomic.Pointer[pipeline], n), pipelines: make(map[*pipeline]string)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// index returns where the route of a key is: its slot, or 0 outside a cluster.
func (r *router) index(key string) int {
	if len(r.routes) == 1 {
		return 0
	}
	return int(Slot(key))
}

// route returns the route of a key, which may be nil.
func (r *router) route(key string) *atomic.Pointer[pipeline] { return &r.routes[r.index(key)] }

// usablePipeline returns a pipeline to the Redis at an address that takes calls, nil if
// there is none.
func (r *router) usablePipeline(addr string) *pipeline {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, at := range r.pipelines {
		if at == addr && p.usable() {
			return p
		}
	}
	return nil
}

// connectRoute makes a new route for a key. It waits for it until a deadline; after that
// the work goes on for later callers.
func (c *Client) connectRoute(key string, deadline time.Time) (*pipeline, error) {
	i := c.router.index(key)
	done := c.router.connecting.DoChan(strconv.Itoa(i), func() (any, error) {
		p, err := c.pipelineFor(key)
		if err != nil {
			c.onFailure()
			return nil, err
		}
		c.router.routes[i].Store(p)
		return p, nil
	})
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case result := <-done:
		if c.router.ctx.Err() != nil {
			return nil, errClosed
		}
		if result.Err != nil {
			return nil, c.explain(result.Err)
		}
		return result.Val.(*pipeline), nil
	case <-timer.C:
		return nil, c.timeoutError()
	}
}

// pipelineFor returns the pipeline to the Redis that has a key, and connects if there is
// none.
func (c *Client) pipelineFor(key string) (*pipeline, error) {
	ctx, cancel := context.WithTimeout(c.router.ctx, c.timeout+setupTimeout)
	defer cancel()
	node, ok := c.redis.(*redis.Client)
	if !ok {
		var err error
		if node, err = c.redis.(*redis.ClusterClient).MasterForKey(ctx, key); err != nil {
			return nil, err
		}
	}
	o := *node.Options()
	p, err, _ := c.router.dialing.Do(o.Addr, func() (any, error) {
		if p := c.router.usablePipeline(o.Addr); p != nil {
			return p, nil
		}
		return c.dialPipeline(ctx, o)
	})
	if err != nil {
		return nil, err
	}
	return p.(*pipeline), nil
}

// dialPipeline connects to one Redis. go-redis does the handshake that the options want:
// it knows of passwords, databases and protocol versions.
func (c *Client) dialPipeline(ctx context.Context, o redis.Options) (*pipeline, error) {
	again, dial := o, o.Dialer
	var conn *renewedConn
	o.PoolSize, o.PipelinePoolSize = 1, -1
	o.MaxRetries = -1 // go-redis has turned the first -1 into 0, which it would now take for 3
	o.Dialer = func(ctx context.Context, network, addr string) (dialled net.Conn, err error) {
		if dialled, err = dial(ctx, network, addr); err == nil {
			conn = dialled.(*renewedConn) // as newRedis has it
		}
		return dialled, err
	}
	client := redis.NewClient(&o)
	err := client.Ping(ctx).Err()
	if err == nil {
		err = c.onConnect(ctx, client)
	}
	var state functions
	switch at := c.libraryAt.Load(); {
	case err != nil || c.library.Name == "":
	case time.Now().UnixNano() < at:
		state.retryAt.Store(at)
	default:
		if err = c.loadLibrary(ctx, client, &state); err != nil && !IsReply(err) {
			client.Close()
			return c.dialPipeline(ctx, again) // without the library
		}
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	// Now the connection is idle, and go-redis does not come back to it.
	p := newPipeline(conn, c)
	p.functions.callable.Store(state.callable.Load())
	p.functions.oneByOne.Store(c.IsCluster()) // users have slots of their own
	p.functions.retryAt.Store(state.retryAt.Load())
	r := c.router
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		client.Close()
		return nil, errClosed
	}
	conn.SetDeadline(time.Time{})
	r.pipelines[p] = o.Addr
	conn.whenStale(p.retire)
	r.attendants.Go(func() {
		p.attend()
		client.Close()
		r.mu.Lock()
		delete(r.pipelines, p)
		r.mu.Unlock()
	})
	return p, nil
}

// close breaks all pipelines. Calls under way fail.
func (r *router) close() {
	r.cancel()
	r.mu.Lock()
	r.closed = true
	open := slices.Collect(maps.Keys(r.pipelines))
	r.mu.Unlock()
	for _, p := range open {
		p.fail(errClosed)
	}
	r.attendants.Wait()
}
