package app

import (
	"metergate/quota"
)

// adminView implements admin.Gateway, always with the configuration in force.
type adminView struct{ app *App }

func (v adminView) AdminToken() string {
	return string(v.app.reloader.current.Load().cfg.Admin.Token)
}
func (v adminView) ReloadConfig() ([]string, error) { return v.app.Reload() }
func (v adminView) EffectiveConfig() any            { return v.app.reloader.current.Load().cfg.Redacted() }
func (v adminView) PlansFor(claim string) quota.PlanChoice {
	return v.app.reloader.current.Load().gateway.PlansFor(claim)
}
