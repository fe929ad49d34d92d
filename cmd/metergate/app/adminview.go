package app

import (
	"context"
	"net"

	"metergate/quota"
)

// adminView implements admin.Gateway, always with the configuration in force.
type adminView struct{ app *App }

func (v adminView) AdminToken() string {
	return string(v.app.reloader.current.Load().cfg.Admin.Token)
}

// AdminHosts are admin.hosts, and the name in admin.listen if it has one.
func (v adminView) AdminHosts() []string {
	admin := v.app.reloader.current.Load().cfg.Admin
	host, _, _ := net.SplitHostPort(admin.Listen)
	return append([]string{host}, admin.Hosts...)
}

func (v adminView) ReloadConfig() ([]string, error) { return v.app.Reload() }
func (v adminView) AcceptData(ctx context.Context) (int, error) {
	return v.app.store.backend.AcceptData(ctx)
}
func (v adminView) EffectiveConfig() any { return v.app.reloader.current.Load().cfg.Redacted() }
func (v adminView) PlansFor(claim string) quota.PlanChoice {
	return v.app.reloader.current.Load().gateway.PlansFor(claim)
}

func (v adminView) HasOrganisations() bool {
	return v.app.reloader.current.Load().cfg.Auth.HasOrganisations()
}
