package jwtauth

import (
	"fmt"
	"strings"

	"metergate/proxy/credential"
	"metergate/proxy/jwtauth/jwtrules"
)

// A PlanOf says which plan a value of the plan claim means.
type PlanOf struct{ Value, Plan string }

// A planMap says which plans the values of a claim mean. nil: a value is the name of a plan.
type planMap struct {
	plans    []string       // in the order in which they are tried
	position map[string]int // of a value's plan in plans
	others   string         // the plan of all other values; "" if they have none
}

func newPlanMap(plans []PlanOf) (*planMap, error) {
	if len(plans) == 0 {
		return nil, nil
	}
	m := &planMap{position: make(map[string]int, len(plans))}
	for _, p := range plans {
		_, twice := m.position[p.Value]
		switch {
		case p.Value == "" || p.Plan == "":
			return nil, fmt.Errorf("plans: the value %q and its plan %q must not be empty", p.Value, p.Plan)
		case twice || p.Value == jwtrules.AnyValue && m.others != "":
			return nil, fmt.Errorf("plans: the value %q is given twice", p.Value)
		case p.Value == jwtrules.AnyValue:
			m.others = p.Plan
		default:
			m.position[p.Value] = len(m.plans)
			m.plans = append(m.plans, p.Plan)
		}
	}
	return m, nil
}

// planOf returns the plan that a claim means; "" for the default plan. unknown is a single text
// that means none. The error is for a claim that is neither a text nor a list of texts and nulls.
func (m *planMap) planOf(value any) (plan, unknown string, refused *credential.Error) {
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	}
	first, given := len(m.plans), false
	for _, element := range list {
		if element == nil {
			continue // as null in place of the list: some issuers write it for a role that is not set
		}
		text, ok := element.(string)
		if !ok {
			return "", "", errPlans
		}
		if i, ok := m.position[text]; ok {
			first = min(first, i)
		}
		given = given || text != ""
		if !isList {
			unknown = text
		}
	}
	switch {
	case first < len(m.plans):
		return m.plans[first], "", nil
	case given && m.others != "":
		return m.others, "", nil
	}
	return "", cut(unknown), nil
}

// maxUnknownPlan bounds what an Identity has of the plan that a token names in vain, in bytes.
const maxUnknownPlan = 100

// cut shortens a text that is only for people.
func cut(text string) string {
	if len(text) <= maxUnknownPlan {
		return text
	}
	return strings.Clone(strings.ToValidUTF8(text[:maxUnknownPlan], ""))
}
