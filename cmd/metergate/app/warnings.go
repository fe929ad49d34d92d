package app

import (
	"fmt"
	"strings"

	"metergate/config"
	"metergate/proxy/routetable"
)

// NearRouteWarnings returns a warning for each route that is not metered and matches paths
// that a lenient framework may take for those of metered routes.
func NearRouteWarnings(cfg *config.Config) (warnings []string) {
	for i, r := range cfg.Routes {
		if r.Endpoint != "" || r.ExactPaths {
			continue
		}
		var near []string
		for _, metered := range cfg.Routes {
			if metered.Endpoint != "" && routetable.MayBeNear(r.Match, metered.Match) {
				near = append(near, metered.Match)
			}
		}
		if len(near) == 0 {
			continue
		}
		consequence := "matches paths that differ from those of %s only in letter case, a slash at the end, a ;parameter or an extension; these are answered 404. If the upstream tells such paths apart, set exact_paths: true"
		if !routetable.HasWildcards(r.Match) {
			consequence = "differs from %s only in letter case, a slash at the end, a ;parameter or an extension, and is not metered. If the upstream tells them apart, set exact_paths: true; otherwise give it the same endpoint"
		}
		warnings = append(warnings, fmt.Sprintf("routes[%d].match (line %d): %s "+consequence, i, r.Line, r.Match, listSome(near)))
	}
	return warnings
}

// listSome names the first three of a list.
func listSome(names []string) string {
	const shown = 3
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d other metered routes", strings.Join(names[:shown], ", "), len(names)-shown)
}
