package app

import (
	"reflect"

	"metergate/config"
)

// restartWarnings names the settings that differ between two configurations and that
// only a restart can change.
func restartWarnings(running, wanted *config.Config) (warnings []string) {
	for _, setting := range []struct {
		name string
		same bool
	}{
		{"listen", running.Listen == wanted.Listen},
		{"tls (on or off)", (running.TLS != nil) == (wanted.TLS != nil)},
		{"admin.listen", running.Admin.Listen == wanted.Admin.Listen},
		{"store", reflect.DeepEqual(running.Store, wanted.Store)},
		{"timezone", running.Timezone.String() == wanted.Timezone.String()},
		{"log.format", running.Log.Format == wanted.Log.Format},
	} {
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
	c.Listen, c.Store, c.Timezone = running.Listen, running.Store, running.Timezone
	c.Admin.Listen, c.Log.Format = running.Admin.Listen, running.Log.Format
	if (running.TLS != nil) != (wanted.TLS != nil) {
		c.TLS = running.TLS
	}
	return &c
}
