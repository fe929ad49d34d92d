package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
)

// script has Redis run a script on a key, and returns its answer. It waits no longer
// than the store's timeout, or until ctx's deadline when that is earlier; the wait for
// a slot, while too many calls are under way, does not count. ctx ends that wait, but
// not the call. A script whose first answer is an error is sent once more.
func (s *Store) script(ctx context.Context, script *redis.Script, key string, args *args) (result, error) {
	c := calls.Get().(*call)
	c.command = appendCommand(c.command[:0], script.Hash(), key, args)
	slot := &s.lines.slots[s.lines.slot(key)]
	err := errRetired
	for range 3 {
		p := slot.Load()
		if p == nil || !p.usable() {
			end := endOf(ctx, s.timeout)
			ctx = sooner{ctx, end}
			if p, err = s.line(key, end); err != nil {
				return result{}, err
			}
		}
		var answered bool
		if answered, err = p.call(ctx, c); !answered {
			return result{}, s.noAnswer() // c is not ours any more
		}
		if _, refused := err.(refusal); refused {
			slot.CompareAndSwap(p, nil) // in a cluster the key may be elsewhere
			return s.eval(sooner{ctx, c.until}, script, key, args)
		}
		if err != errRetired {
			break
		}
	}
	r := c.result
	calls.Put(c)
	if err == errRetired { // time and again, and nothing was sent
		err = quota.ErrOverloaded
	}
	return r, err
}

// eval is script by way of go-redis, which follows a key to where it is, and with the
// whole script, which Redis may not know. Who gets an error here gets Redis's.
func (s *Store) eval(ctx context.Context, script *redis.Script, key string, args *args) (result, error) {
	var r result
	list := args.split() // the call may take longer than args are ours
	err := s.exclusively(ctx, func(ctx context.Context) error {
		r.sent = s.now()
		values, err := script.Eval(ctx, s.client, []string{key}, list...).Slice()
		r.received = s.now()
		r.numbers = make([]int64, len(values))
		for i, v := range values {
			switch v := v.(type) {
			case int64:
				r.numbers[i] = v
			case string:
				r.add(i, v)
			}
		}
		return err
	})
	if err != nil {
		return result{}, err // the call may still be under way, and write to r
	}
	return r, nil
}
