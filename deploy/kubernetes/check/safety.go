package check

import (
	"net/url"
	"strings"

	core "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// restricted is what a cluster itself asks of pods in a namespace of that level.
var restricted = func() policy.Evaluator {
	e, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		panic(err)
	}
	return e
}()

// safety checks what pods may do, and that no secret is among the settings.
func (o *objects) safety(p *problems) {
	for _, n := range o.namespaces {
		if n.Labels[api.EnforceLevelLabel] != string(api.LevelRestricted) {
			p.add("Namespace %s: %s is not %s", n.Name, api.EnforceLevelLabel, api.LevelRestricted)
		}
	}
	for _, d := range o.deployments {
		pod := &d.Spec.Template
		if len(o.namespaces) != 1 || d.Namespace != o.namespaces[0].Name {
			p.add("Deployment %s: namespace %q is not the one that is made", d.Name, d.Namespace)
		}
		level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
		if r := policy.AggregateCheckResults(restricted.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec)); !r.Allowed {
			p.add("Deployment %s: a cluster would refuse its pods: %s", d.Name, r.ForbiddenDetail())
		}
		if pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks {
			p.add("Deployment %s: enableServiceLinks is not false", d.Name)
		}
		if pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
			p.add("Deployment %s: automountServiceAccountToken is not false", d.Name)
		}
		for _, c := range pod.Spec.Containers {
			if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
				p.add("Deployment %s: readOnlyRootFilesystem is not true", d.Name)
			}
			if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
				p.add("Deployment %s: want requests of cpu and memory, and a limit of memory", d.Name)
			}
			if _, tag, tagged := strings.Cut(c.Image[strings.LastIndexByte(c.Image, '/')+1:], ":"); !tagged || tag == "latest" {
				p.add("Deployment %s: image %q has no version", d.Name, c.Image)
			}
			for _, e := range c.Env {
				if e.ValueFrom == nil {
					noSecret(d.Name, e.Name, e.Value, p)
				}
			}
		}
	}
	for _, c := range o.configs {
		for key, value := range c.Data {
			noSecret(c.Name, key, value, p)
		}
	}
}

// noSecret tells what belongs into a Secret: keys by their names, logins in URLs.
func noSecret(where, key, value string, p *problems) {
	for _, word := range []string{"SECRET", "API_KEYS", "PASSWORD"} {
		if strings.Contains(key, word) {
			p.add("%s: %s belongs into a Secret", where, key)
		}
	}
	for one := range strings.SplitSeq(value, ",") {
		if u, err := url.Parse(one); err == nil && u.User != nil {
			p.add("%s: the login in %s belongs into a Secret", where, key)
		}
	}
}

// variables are those of a container that are given one by one.
func variables(c *core.Container) map[string]string {
	m := map[string]string{}
	for _, e := range c.Env {
		m[e.Name] = e.Value
	}
	return m
}
