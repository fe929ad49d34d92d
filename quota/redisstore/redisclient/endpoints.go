package redisclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// endpoints knows the hosts that a cluster leaves out when it names its nodes. A node whose host is
// null (cluster-preferred-endpoint-type unknown-endpoint) or empty (it does not know its own
// address yet) has the host that was asked, and another port. One whose host is a question mark
// (cluster-preferred-endpoint-type hostname, but it has none) is reached by its IP address, which
// stands beside it. See the command CLUSTER SLOTS in Redis's documentation.
//
// go-redis takes a null for a failure, an empty host for this machine and the question mark for a
// name.
type endpoints struct {
	mu sync.Mutex
	// asked is the host of the node that has last left hosts out, at first that of the URL.
	asked string
	// byPort has the hosts that this node has left out, by port; empty: there are several.
	byPort map[string]string
}

// newNode makes the client of a node, for redis.ClusterOptions. A redirect leaves out the same
// hosts as CLUSTER SLOTS does, and does not give the IP address of a question mark.
func (e *endpoints) newNode(o *redis.Options) *redis.Client {
	dial := o.Dialer
	o.Addr = e.complete(o.Addr)
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		addr = e.complete(addr) // by now it may be known
		if strings.HasPrefix(addr, "?") {
			return nil, fmt.Errorf("the cluster does not say which host the node %s has; set its cluster-announce-hostname, or cluster-preferred-endpoint-type to ip", addr)
		}
		return dial(ctx, network, addr)
	}
	c := newRedis(o)
	c.AddHook(slotsHook{e, o.Addr})
	return c
}

// complete returns HOST:PORT for an address that may lack its host. The host stays a question
// mark if it is not known.
func (e *endpoints) complete(addr string) string {
	i := strings.LastIndexByte(addr, ':')
	if i < 0 {
		return addr
	}
	host, port := strings.Trim(addr[:i], "[]"), addr[i+1:] // a redirect has no brackets around IPv6
	if host == "" || host == "?" {
		e.mu.Lock()
		defer e.mu.Unlock()
		if known := e.byPort[port]; known != "" {
			host = known
		} else if host == "" {
			host = e.asked
		}
	}
	return net.JoinHostPort(host, port)
}

// A slotsHook reads the replies of a node to CLUSTER SLOTS.
type slotsHook struct {
	endpoints *endpoints
	addr      string // of the node
}

func (h slotsHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		slots, ok := cmd.(*redis.ClusterSlotsCmd)
		if !ok {
			return next(ctx, cmd)
		}
		raw := redis.NewSliceCmd(ctx, cmd.Args()...)
		if err := next(ctx, raw); err != nil {
			return err
		}
		asked, _, _ := net.SplitHostPort(h.endpoints.complete(h.addr))
		reply, err := h.endpoints.readSlots(raw.Val(), asked)
		slots.SetVal(reply)
		return err
	}
}

func (slotsHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (slotsHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

var errSlots = errors.New("the reply to CLUSTER SLOTS cannot be read")

// readSlots reads a reply of a host to CLUSTER SLOTS, and keeps the hosts that it leaves out.
func (e *endpoints) readSlots(reply []any, asked string) ([]redis.ClusterSlot, error) {
	slots := make([]redis.ClusterSlot, 0, len(reply))
	leftOut := map[string]string{}
	for _, element := range reply {
		fields, _ := element.([]any)
		if len(fields) < 2 {
			return nil, errSlots
		}
		start, isStart := fields[0].(int64)
		end, isEnd := fields[1].(int64)
		if !isStart || !isEnd {
			return nil, errSlots
		}
		slot := redis.ClusterSlot{Start: int(start), End: int(end)}
		for _, field := range fields[2:] {
			node, _ := field.([]any)
			if len(node) < 2 {
				return nil, errSlots
			}
			host, port := nodeHost(node, asked), fmt.Sprint(node[1])
			if host != node[0] {
				if other, ok := leftOut[port]; ok && other != host {
					leftOut[port] = ""
				} else {
					leftOut[port] = host
				}
			}
			slot.Nodes = append(slot.Nodes, redis.ClusterNode{Addr: net.JoinHostPort(host, port)})
		}
		slots = append(slots, slot)
	}
	if len(leftOut) > 0 {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.asked, e.byPort = asked, leftOut
	}
	return slots, nil
}

// nodeHost returns the host of a node: what it is named by, its port, its id, and more names.
func nodeHost(node []any, asked string) string {
	name, _ := node[0].(string) // or null
	if name == "?" && len(node) > 3 {
		if ip := replyField(node[3], "ip"); ip != "" {
			return ip
		}
	}
	if name == "" || name == "?" {
		return asked
	}
	return name
}

// replyField returns a text in a reply that is a map, or pairs in RESP2; empty: it is not there.
func replyField(reply any, name string) string {
	var value any
	switch fields := reply.(type) {
	case map[any]any:
		value = fields[name]
	case []any:
		for i := 0; i+1 < len(fields); i += 2 {
			if fields[i] == name {
				value = fields[i+1]
			}
		}
	}
	text, _ := value.(string)
	return text
}
