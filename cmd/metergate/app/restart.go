package app

import (
	"reflect"
	"strings"

	"metergate/config"
)

// restartWarnings names the settings that differ between two configurations and that
// only a restart can change.
func restartWarnings(running, wanted *config.Config) (warnings []string) {
	type setting struct {
		name string
		same bool
	}
	settings := []setting{
		{"listen", running.Listen == wanted.Listen},
		{"idle_timeout", running.IdleTimeout == wanted.IdleTimeout},
		{"tls (on or off)", (running.TLS != nil) == (wanted.TLS != nil)},
		{"admin.listen", running.Admin.Listen == wanted.Admin.Listen},
		{"history.keep", running.HistoryDays() == wanted.HistoryDays()},
		{"billing.keep", running.BillingHours() == wanted.BillingHours()},
		{"timezone", running.Timezone.String() == wanted.Timezone.String()},
		{"log.format", running.Log.Format == wanted.Log.Format},
	}
	before, after := reflect.ValueOf(running.Store), reflect.ValueOf(wanted.Store)
	for i := range before.NumField() { // each key by its name
		key, _, _ := strings.Cut(before.Type().Field(i).Tag.Get("yaml"), ",")
		if key == "tls" && running.Store.URL == wanted.Store.URL {
			continue // for new connections
		}
		settings = append(settings, setting{"store." + key, reflect.DeepEqual(before.Field(i).Interface(), after.Field(i).Interface())})
	}
	for _, setting := range settings {
		if !setting.same {
			warnings = append(warnings, setting.name+" has changed in the file; it takes a restart, and the old value stays in force")
		}
	}
	return warnings
}

// keepUntilRestart returns the wanted configuration, but with the running values of what
// only a restart can change. The result is what is really in force.
func keepUntilRestart(running, wanted *config.Config) *config.Config {
	c := *wanted
	c.IdleTimeout = running.IdleTimeout
	c.Listen, c.Store, c.Timezone = running.Listen, running.Store, running.Timezone
	c.History, c.Billing = running.History, running.Billing
	if running.Store.URL == wanted.Store.URL {
		c.Store.TLS = wanted.Store.TLS
	}
	c.Admin.Listen, c.Log.Format = running.Admin.Listen, running.Log.Format
	if (running.TLS != nil) != (wanted.TLS != nil) {
		c.TLS = running.TLS
	}
	return &c
}
