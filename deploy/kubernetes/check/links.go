package check

import (
	"slices"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// links checks that what refers to something else finds it: by label, by name, by port.
func (o *objects) links(p *problems) {
	for _, d := range o.deployments {
		if got := o.selected(d.Spec.Selector); len(got) != 1 || got[0] != d {
			p.add("Deployment %s: its selector does not match its own pods, or others, too", d.Name)
		}
		o.spread(d, p)
		for _, c := range d.Spec.Template.Spec.Containers {
			for kind, probe := range map[string]*core.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
				switch {
				case probe == nil && kind == "startup":
				case probe == nil || probe.HTTPGet == nil:
					p.add("Deployment %s: no %s probe", d.Name, kind)
				case !hasPort(d, probe.HTTPGet.Port):
					p.add("Deployment %s: the %s probe asks port %s, which is none of its", d.Name, kind, probe.HTTPGet.Port.String())
				case probe.HTTPGet.Path != "/healthz" && (kind == "liveness" || probe.HTTPGet.Path != "/readyz"):
					// What /readyz waits for, NATS and the like, no restart brings back.
					p.add("Deployment %s: the %s probe asks for %s", d.Name, kind, probe.HTTPGet.Path)
				}
			}
		}
		o.covered(d, p)
	}
	for _, s := range o.services {
		pods := o.selected(&meta.LabelSelector{MatchLabels: s.Spec.Selector})
		if len(pods) != 1 {
			p.add("Service %s selects %d Deployments, want 1", s.Name, len(pods))
			continue
		}
		for _, port := range s.Spec.Ports {
			if !hasPort(pods[0], port.TargetPort) {
				p.add("Service %s: targetPort %s is no port of %s", s.Name, port.TargetPort.String(), pods[0].Name)
			}
			if admin := port.TargetPort.StrVal == "admin"; admin != (s.Spec.ClusterIP == core.ClusterIPNone) {
				p.add("Service %s: admin ports belong in headless Services of their own", s.Name)
			}
		}
	}
	if len(o.scaled) > 0 && len(o.monitors) == 0 {
		p.add("no ServiceMonitor: the Prometheus that the ScaledObject asks knows nothing of nodes")
	}
	for _, m := range o.monitors {
		services := slices.DeleteFunc(slices.Clone(o.services), func(s *core.Service) bool {
			return !matches(&m.Spec.Selector, s.Labels)
		})
		if len(services) != len(o.deployments) {
			p.add("ServiceMonitor %s selects %d Services for %d Deployments", m.Name, len(services), len(o.deployments))
		}
		for _, e := range m.Spec.Endpoints {
			for _, s := range services {
				if !slices.ContainsFunc(s.Spec.Ports, func(port core.ServicePort) bool { return port.Name == e.Port }) {
					p.add("ServiceMonitor %s: Service %s has no port %q", m.Name, s.Name, e.Port)
				}
			}
			if e.Path != "/metrics" {
				p.add("ServiceMonitor %s: path %q", m.Name, e.Path)
			}
		}
	}
}

// spread checks that the pods of a Deployment are on machines of their own: of nodes and
// publishers as far as that can be had, of bridges always, for two are all that there are.
func (o *objects) spread(d *apps.Deployment, p *problems) {
	over := false
	for _, s := range d.Spec.Template.Spec.TopologySpreadConstraints {
		if !slices.Contains(o.selected(s.LabelSelector), d) {
			p.add("Deployment %s: a topologySpreadConstraint does not select its pods", d.Name)
		}
		always := s.WhenUnsatisfiable == core.DoNotSchedule
		over = over || s.TopologyKey == core.LabelHostname && s.MaxSkew == 1 && (always || d.Name != "bridge")
	}
	if !over {
		p.add("Deployment %s: all of it may be on one machine", d.Name)
	}
}

// covered checks that a Deployment has its budget and its policy, and that these select
// nothing else.
func (o *objects) covered(d *apps.Deployment, p *problems) {
	budgets, policies := 0, 0
	for _, b := range o.budgets {
		if b.Name == d.Name {
			budgets++
			if got := o.selected(b.Spec.Selector); len(got) != 1 || got[0] != d {
				p.add("PodDisruptionBudget %s does not select the pods of %s alone", b.Name, d.Name)
			}
			// Of two pods, the fewest that there are; a percentage is rounded up.
			if n, err := intstr.GetScaledValueFromIntOrPercent(b.Spec.MaxUnavailable, 2, true); err != nil || n != 1 {
				p.add("PodDisruptionBudget %s: %d of two pods may be away, want one", b.Name, n)
			}
		}
	}
	for _, n := range o.policies {
		if n.Name != d.Name {
			continue
		}
		policies++
		if got := o.selected(&n.Spec.PodSelector); len(got) != 1 || got[0] != d {
			p.add("NetworkPolicy %s does not select the pods of %s alone", n.Name, d.Name)
		}
		if len(n.Spec.PolicyTypes) != 2 {
			p.add("NetworkPolicy %s: want Ingress and Egress", n.Name)
		}
		open := map[string]bool{}
		for _, rule := range n.Spec.Ingress {
			for _, port := range rule.Ports {
				if port.Port == nil || !hasPort(d, *port.Port) {
					p.add("NetworkPolicy %s: an ingress port is no port of %s", n.Name, d.Name)
					continue
				}
				open[port.Port.String()] = true
				if port.Port.StrVal == "admin" && len(rule.From) == 0 {
					p.add("NetworkPolicy %s: the admin port is open to all", n.Name)
				}
			}
		}
		for _, port := range d.Spec.Template.Spec.Containers[0].Ports {
			if !open[port.Name] {
				p.add("NetworkPolicy %s: nobody may reach port %s", n.Name, port.Name)
			}
		}
	}
	if budgets != 1 || policies != 1 {
		p.add("Deployment %s: %d PodDisruptionBudgets and %d NetworkPolicies of its name, want 1 each", d.Name, budgets, policies)
	}
}

// selected are the Deployments whose pods a selector matches.
func (o *objects) selected(s *meta.LabelSelector) []*apps.Deployment {
	return slices.DeleteFunc(slices.Clone(o.deployments), func(d *apps.Deployment) bool {
		return !matches(s, d.Spec.Template.Labels)
	})
}

// matches is false for a selector that is missing, empty or wrong: none here is meant to
// select everything.
func matches(s *meta.LabelSelector, l map[string]string) bool {
	selector, err := meta.LabelSelectorAsSelector(s)
	return err == nil && !selector.Empty() && selector.Matches(labels.Set(l))
}

// hasPort tells whether a pod has the port, which must be given by name: a number would
// go on existing when the program listens elsewhere.
func hasPort(d *apps.Deployment, port intstr.IntOrString) bool {
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, own := range c.Ports {
			if port.Type == intstr.String && own.Name == port.StrVal {
				return true
			}
		}
	}
	return false
}
