package check

import (
	"slices"
	"strconv"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// scaler is what an autoscaler of either kind says.
type scaler struct {
	name     string
	target   autoscaling.CrossVersionObjectReference
	min, max int32
	behavior *autoscaling.HorizontalPodAutoscalerBehavior
}

// scaling checks the autoscalers, and that no two have the same pods.
func (o *objects) scaling(metrics []string, p *problems) {
	var list []scaler
	for _, h := range o.hpas {
		least := int32(1)
		if h.Spec.MinReplicas != nil {
			least = *h.Spec.MinReplicas
		}
		list = append(list, scaler{"HorizontalPodAutoscaler " + h.Name, h.Spec.ScaleTargetRef, least, h.Spec.MaxReplicas, h.Spec.Behavior})
	}
	for _, s := range o.scaled {
		list = append(list, scaler{"ScaledObject " + s.Name, s.Spec.ScaleTargetRef, s.Spec.MinReplicaCount, s.Spec.MaxReplicaCount, s.Spec.Advanced.HPA.Behavior})
		asked := map[string]bool{}
		for _, t := range s.Spec.Triggers {
			for _, name := range o.trigger(s, t, metrics, p) {
				asked[name] = true
			}
		}
		if !asked["sluice_ssenode_connections"] || !asked["sluice_ssenode_events_out_total"] {
			p.add("ScaledObject %s: want triggers by connections and by events delivered", s.Name)
		}
	}
	scaled := map[string]int{}
	for _, s := range list {
		i := slices.IndexFunc(o.deployments, func(d *apps.Deployment) bool {
			return s.target == autoscaling.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: d.Name}
		})
		if i < 0 {
			p.add("%s: its target is no Deployment here", s.name)
			continue
		}
		d := o.deployments[i]
		if scaled[d.Name]++; scaled[d.Name] > 1 {
			p.add("%s: another one scales %s, too", s.name, d.Name)
		}
		if d.Spec.Replicas != nil {
			p.add("%s: Deployment %s has a number of replicas: each time that it is applied, it undoes the scaling", s.name, d.Name)
		}
		if s.min < 2 || s.max < s.min {
			p.add("%s: %d to %d replicas, want two at least", s.name, s.min, s.max)
		}
		down := s.behavior
		if down == nil || down.ScaleDown == nil || len(down.ScaleDown.Policies) == 0 {
			p.add("%s: want policies of scaleDown", s.name)
			continue
		}
		for _, rule := range down.ScaleDown.Policies {
			if grace := d.Spec.Template.Spec.TerminationGracePeriodSeconds; grace != nil && int64(rule.PeriodSeconds) < *grace {
				p.add("%s: pods go faster than one drains (%d s)", s.name, *grace)
			}
		}
	}
	for _, d := range o.deployments {
		if n := d.Spec.Replicas; scaled[d.Name] == 0 && (n == nil || *n < 2) {
			p.add("Deployment %s: want two replicas at least", d.Name)
		}
	}
}

// trigger checks that a query is one, that it gives one number, and that what it asks
// for exists. It returns the metrics asked for.
func (o *objects) trigger(s *ScaledObject, t Trigger, metrics []string, p *problems) (asked []string) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(t.Metadata["query"])
	if err != nil {
		p.add("ScaledObject %s, %s: %v", s.Name, t.Name, err)
		return nil
	}
	if sum, ok := expr.(*parser.AggregateExpr); !ok || len(sum.Grouping) > 0 {
		p.add("ScaledObject %s, %s: the query gives more than one number", s.Name, t.Name)
	}
	for _, selectors := range parser.ExtractSelectors(expr) {
		name, here := "", false
		for _, m := range selectors {
			if m.Name == model.MetricNameLabel {
				name = m.Value
			}
			here = here || m.Name == "namespace" && m.Type == labels.MatchEqual && m.Value == s.Namespace
		}
		asked = append(asked, name)
		if !slices.Contains(metrics, name) {
			p.add("ScaledObject %s, %s: a node has no metric %s", s.Name, t.Name, name)
		}
		if !here {
			p.add("ScaledObject %s, %s: not only of namespace %s", s.Name, t.Name, s.Namespace)
		}
		if name == "sluice_ssenode_connections" {
			most := 0
			for _, c := range o.configs {
				if n, err := strconv.Atoi(c.Data["SSENODE_MAX_CONNECTIONS"]); err == nil {
					most = n
				}
			}
			if target, err := strconv.Atoi(t.Metadata["threshold"]); err != nil || target > most*3/4 {
				p.add("ScaledObject %s, %s: threshold %s leaves no room below SSENODE_MAX_CONNECTIONS=%d", s.Name, t.Name, t.Metadata["threshold"], most)
			}
		}
	}
	return asked
}
