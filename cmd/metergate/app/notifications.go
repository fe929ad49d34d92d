package app

import (
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/config"
	"metergate/proxy"
	"metergate/quota"
	"metergate/quota/notify"
)

// buildReceiver returns the webhook of a configuration; nil: it has none. If it has not changed, it is taken over
// from the generation before, with its connections.
func buildReceiver(cfg *config.Config, before *generation) (*notify.Receiver, error) {
	n := cfg.Notify
	if n == nil {
		return nil, nil
	}
	if before != nil && before.cfg.Notify != nil && before.cfg.Notify.URL == n.URL && slices.Equal(before.cfg.Notify.SigningSecrets(), n.SigningSecrets()) {
		return before.receiver, nil
	}
	return notify.NewReceiver(n.URL, n.SigningSecrets())
}

// nameInLog returns what stands for a user or an organisation in the log, by the configuration in force.
func (a *App) nameInLog(id string) string {
	return logUser(a.reloader.current.Load().cfg).NameOf(id)
}

// logUser returns how a configuration names users in the log.
func logUser(cfg *config.Config) proxy.LogUser {
	return map[config.LogUser]proxy.LogUser{config.LogHash: proxy.LogUserHash, config.LogOmit: proxy.LogUserOmit}[cfg.Log.User]
}

// thresholdsOf returns the percentages of limits that are notified.
func thresholdsOf(cfg *config.Config) []int {
	if cfg.Notify == nil {
		return nil
	}
	return cfg.Notify.At
}

// claimedPlans returns the plans that may apply to somebody whose token claims a plan, by the configuration in
// force. The guard asks, which is older than the first generation.
type claimedPlans struct {
	byClaim atomic.Pointer[func(claim string) quota.PlanChoice]
}

func (p *claimedPlans) set(byClaim func(claim string) quota.PlanChoice) { p.byClaim.Store(&byClaim) }

// setFrom sets the plans of a configuration from which no generation was built yet.
func (p *claimedPlans) setFrom(cfg *config.Config) error {
	plans, err := Plans(cfg)
	if err != nil {
		return err
	}
	p.set(func(claim string) quota.PlanChoice {
		choice := quota.PlanChoice{Claimed: plans[claim], ByName: plans, Terms: cfg.UsesTerms()}
		if choice.Claimed == nil {
			choice.Claimed = plans[cfg.DefaultPlan]
		}
		return choice
	})
	return nil
}

// forAccount implements guard.Options.PlansFor.
func (p *claimedPlans) forAccount(account, claim string) quota.PlanChoice {
	choice := (*p.byClaim.Load())(claim)
	choice.Scope = quota.ScopeOf(account)
	return choice
}

// notificationMetrics are about the events that the gateway sends, where it sends any.
type notificationMetrics struct{ app *App }

var (
	notificationsDesc = prometheus.NewDesc("metergate_notifications_total",
		"Notifications by result: sent (accepted by the receiver), failed (a request that was not accepted; it is repeated) and given_up (dropped after 24 hours).", []string{"result"}, nil)
	notificationsWaitingDesc = prometheus.NewDesc("metergate_notifications_waiting",
		"Users and organisations with notifications that the receiver has not accepted yet, in the whole store.", nil, nil)
	oldestNotificationDesc = prometheus.NewDesc("metergate_notifications_oldest_seconds",
		"Age of the oldest notification that the receiver has not accepted yet, in the whole store; 0: none waits.", nil, nil)
)

// Describe implements prometheus.Collector.
func (notificationMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{notificationsDesc, notificationsWaitingDesc, oldestNotificationDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m notificationMetrics) Collect(ch chan<- prometheus.Metric) {
	if m.app.reloader.current.Load().receiver == nil {
		return
	}
	st := m.app.sender.Stats()
	for result, n := range map[string]int64{"sent": st.Sent, "failed": st.Failed, "given_up": st.GaveUp} {
		ch <- prometheus.MustNewConstMetric(notificationsDesc, prometheus.CounterValue, float64(n), result)
	}
	ch <- prometheus.MustNewConstMetric(notificationsWaitingDesc, prometheus.GaugeValue, float64(st.Waiting))
	ch <- prometheus.MustNewConstMetric(oldestNotificationDesc, prometheus.GaugeValue, st.Age.Seconds())
}
