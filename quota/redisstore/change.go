package redisstore

import (
	"context"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// ApplyChange implements quota.Store, and announces the change to the gateways. The snapshot is
// read after it, in a second call.
func (s *Store) ApplyChange(ctx context.Context, user string, plans quota.PlanChoice, c quota.Change) (quota.Snapshot, error) {
	if err := c.Validate(user); err != nil {
		return quota.Snapshot{}, err
	}
	q := query{script: script.Change, user: user}
	switch c.Action {
	case quota.ActionGrant:
		q.plans = plans // the limit depends on the plan
		q.periods = func(p *quota.Plan) []quota.Period {
			if i, ok := c.LimitIndex(p); ok {
				return []quota.Period{p.Limits()[i].Period}
			}
			return nil
		}
	case quota.ActionReset:
		q.periods = func(*quota.Plan) []quota.Period { all := quota.Periods(); return all[:] }
	case quota.ActionSetCounts:
		q.periods = func(*quota.Plan) []quota.Period { return []quota.Period{c.Period} }
	}
	q.appendArgs = func(args *resp.Args, p *quota.Plan, l *layout) {
		own := script.ChangeArgs{Change: c, Entry: c, Windows: l.windows, Keep: s.keep}
		if c.Action == quota.ActionGrant {
			if i, ok := c.LimitIndex(p); ok {
				limit := p.Limits()[i]
				own.GrantField = script.GrantField(script.CounterName(l.windows[0].ID, limit.Endpoint), limit.Quantity)
				own.Entry.Period = limit.Period
			}
		}
		own.AppendTo(args)
	}
	var o outcome
	if err := s.ask(ctx, &q, &o); err != nil {
		return quota.Snapshot{}, err
	}
	if err := o.reply.ChangeError(); err != nil {
		return quota.Snapshot{}, err
	}
	return s.Read(ctx, user, plans)
}
