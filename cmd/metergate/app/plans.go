package app

import (
	"maps"
	"slices"

	"metergate/config"
	"metergate/proxy"
	"metergate/quota"
)

// Plans builds the plans of a configuration, by name.
func Plans(cfg *config.Config) (map[string]*quota.Plan, error) {
	endpoints := endpointNames(cfg)
	costs := cfg.Costs()
	plans := make(map[string]*quota.Plan, len(cfg.Plans))
	for name, p := range cfg.Plans {
		limits := make([]quota.Limit, 0, len(p.Limits)+len(p.Shared))
		for _, l := range p.Limits {
			limits = append(limits, limitOf(l))
		}
		for _, l := range p.Shared {
			shared := limitOf(l)
			shared.Shared = true
			limits = append(limits, shared)
		}
		o := quota.PlanOptions{Name: name, Limits: limits, Observe: p.Observe, Endpoints: endpoints, Costs: costs, WarnAt: cfg.WarnAt, Anchor: anchorModes[p.Anchor],
			NotifyAt: thresholdsOf(cfg)}
		if costs != nil {
			o.UnitName = cfg.UnitName
		}
		if c := p.Concurrent; c != nil {
			o.Concurrent = quota.ConcurrencyLimit{Requests: c.Requests, Wait: c.Wait}
		}
		if a := p.Attempts; a != nil {
			o.Attempts = quota.AttemptLimit{Requests: a.Requests, Per: a.Interval()}
		}
		var err error
		if plans[name], err = quota.NewPlan(o); err != nil {
			return nil, err
		}
	}
	return plans, nil
}

// anchorModes has the values of plans.NAME.anchor.
var anchorModes = map[string]quota.AnchorMode{"claim": quota.ClaimAnchor, "first_use": quota.FirstUseAnchor}

func limitOf(l config.Limit) quota.Limit {
	return quota.Limit{Amount: l.Amount(), Period: l.Per, Endpoint: l.Endpoint, Quantity: l.Quantity(), Soft: l.Soft, Carry: l.CarryAmount()}
}

// upgradeURLsOf returns the upgrade URLs of the plans that have their own, by the plan's name.
func upgradeURLsOf(cfg *config.Config) map[string]string {
	urls := map[string]string{}
	for name, p := range cfg.Plans {
		if p.UpgradeURL != "" {
			urls[name] = p.UpgradeURL
		}
	}
	return urls
}

// endpointNames returns the endpoints of all routes, each once, sorted.
func endpointNames(cfg *config.Config) []string {
	names := map[string]bool{}
	for _, r := range cfg.Routes {
		if r.Endpoint != "" {
			names[r.Endpoint] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// costOf returns what requests of a route are charged.
func costOf(c *config.Cost) proxy.Cost {
	if c == nil {
		return proxy.Cost{}
	}
	return proxy.Cost{Cost: quota.Cost{Min: c.Min, Max: c.Max}, Header: c.Header(), Path: c.Path(), Each: c.Each, MissingMin: c.Missing == "min"}
}
