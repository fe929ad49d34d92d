package app

import (
	"context"
	"net"

	"metergate/config"
	"metergate/proxy/admin"
	"metergate/proxy/apikeys"
	"metergate/quota"
)

// adminView implements admin.Gateway, always with the configuration in force.
type adminView struct{ app *App }

// Tokens are both from one configuration: a reload may exchange them.
func (v adminView) Tokens() admin.Tokens {
	cfg := v.app.reloader.current.Load().cfg.Admin
	return admin.Tokens{Admin: string(cfg.Token), Viewer: string(cfg.ViewerToken)}
}

// AdminHosts are admin.hosts, and the name in admin.listen if it has one.
func (v adminView) AdminHosts() []string {
	cfg := v.app.reloader.current.Load().cfg.Admin
	if address, _ := config.ParseListen(cfg.Listen); address.Network == config.ListenTCP {
		host, _, _ := net.SplitHostPort(address.Address)
		return append([]string{host}, cfg.Hosts...)
	}
	return cfg.Hosts
}

func (v adminView) ReloadConfig() ([]string, error) { return v.app.Reload() }
func (v adminView) AcceptData(ctx context.Context) (int, error) {
	return v.app.store.backend.AcceptData(ctx)
}

// EffectiveConfig is the configuration in force, with the API keys of its file.
func (v adminView) EffectiveConfig() any {
	cfg := v.app.reloader.current.Load().cfg
	shown := cfg.Redacted()
	if auth, ok := shown["auth"].(map[string]any); ok && cfg.Auth.APIKeys != nil {
		auth["api_keys"] = shownKeys{cfg.Auth.APIKeys.File, len(cfg.Auth.APIKeys.Keys.Keys()), listKeys(cfg.Auth.APIKeys.Keys)}
	}
	return shown
}

// shownKeys are the API keys in force. Only their hashes are known.
type shownKeys struct {
	File  string     `json:"file"`
	Count int        `json:"count"`
	Keys  []shownKey `json:"keys"` // the first of them
}

type shownKey struct {
	ID      string `json:"id"`
	Hash    string `json:"hash"`
	User    string `json:"user"`
	Plan    string `json:"plan,omitempty"`
	Org     string `json:"org,omitempty"`
	Expires string `json:"expires,omitempty"`
}

// maxShownKeys bounds the answer, which would otherwise have megabytes.
const maxShownKeys = 1000

func listKeys(set *apikeys.Set) []shownKey {
	shown := []shownKey{}
	for _, k := range set.Keys() {
		if len(shown) == maxShownKeys {
			break
		}
		shown = append(shown, shownKey{k.ID, k.HashText(), k.User, k.Plan, k.Org, k.ExpiryText()})
	}
	return shown
}

func (v adminView) PlansFor(claim string) quota.PlanChoice {
	return v.app.reloader.current.Load().gateway.PlansFor(claim)
}

func (v adminView) HasOrganisations() bool {
	return v.app.reloader.current.Load().cfg.Auth.HasOrganisations()
}
