package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"gopkg.in/yaml.v3"

	"metergate/quota"
	"metergate/quota/plancheck"
)

// plansYAML returns the section "plans" of a configuration with some changes, as it can be pasted into the
// file: the plans that are changed, whole, without their comments. config is what
// [Gateway.EffectiveConfig] returns. The changes are ones that [plancheck.Apply] accepts.
func plansYAML(config any, plans map[string]*quota.Plan, changes []plancheck.Change) (string, error) {
	if len(changes) == 0 {
		return "", nil
	}
	shown, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	var parsed struct{ Plans map[string]map[string]any }
	dec := json.NewDecoder(bytes.NewReader(shown))
	dec.UseNumber()
	if err := dec.Decode(&parsed); err != nil {
		return "", err
	}
	changed := map[string]any{}
	for _, c := range changes {
		plan := parsed.Plans[c.Plan]
		at, err := plancheck.FindLimit(plans[c.Plan], c.Limit)
		if err != nil {
			return "", err
		}
		limits, _ := plan["limits"].([]any)
		shared, _ := plan["shared"].([]any)
		all := slices.Concat(limits, shared)
		if at >= len(all) {
			return "", fmt.Errorf("the configuration has changed; ask again")
		}
		limit, _ := all[at].(map[string]any)
		limit[plans[c.Plan].Limits()[at].Quantity.String()] = json.Number(fmt.Sprint(c.Amount))
		changed[c.Plan] = plan
	}
	var text bytes.Buffer
	enc := yaml.NewEncoder(&text)
	enc.SetIndent(2)
	err = enc.Encode(yamlNode(map[string]any{"plans": changed}))
	return text.String(), err
}

// yamlOrder is the order of the keys of a plan, and of a limit. Others come last.
var yamlOrder = []string{"requests", "units", "per", "endpoint", "carry", "limits", "shared", "concurrent", "attempts", "anchor", "mode", "upgrade_url"}

// yamlNode is a value of a configuration in YAML. The elements of lists stand on one line each.
func yamlNode(value any) *yaml.Node {
	node := new(yaml.Node)
	switch v := value.(type) {
	case map[string]any:
		node.Kind = yaml.MappingNode
		place := func(key string) int {
			if i := slices.Index(yamlOrder, key); i >= 0 {
				return i
			}
			return len(yamlOrder)
		}
		for _, key := range slices.SortedStableFunc(slices.Values(slices.Sorted(maps.Keys(v))), func(a, b string) int { return place(a) - place(b) }) {
			if list, ok := v[key].([]any); key == "mode" && v[key] == "enforce" || key == "shared" && ok && len(list) == 0 {
				continue // the default
			}
			node.Content = append(node.Content, yamlNode(key), yamlNode(v[key]))
		}
	case []any:
		node.Kind = yaml.SequenceNode
		if len(v) == 0 {
			node.Style = yaml.FlowStyle
		}
		for _, element := range v {
			inner := yamlNode(element)
			inner.Style |= yaml.FlowStyle
			node.Content = append(node.Content, inner)
		}
	case json.Number:
		node.Kind, node.Tag, node.Value = yaml.ScalarNode, "!!int", v.String()
	case bool:
		node.Kind, node.Tag, node.Value = yaml.ScalarNode, "!!bool", fmt.Sprint(v)
	default:
		node.SetString(fmt.Sprint(v))
	}
	return node
}
