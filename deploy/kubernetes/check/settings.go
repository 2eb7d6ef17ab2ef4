package check

import (
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"sluice/deploy/program"
)

// settings gives each program the environment that its pod has, and reads it as the
// program does. Those of Secrets are the README's.
func (o *objects) settings(secrets map[string]map[string]string, p *problems) {
	readers := map[string][]string{} // by ConfigMap: the programs that read it
	used := map[string]bool{}        // Secrets
	for _, d := range o.deployments {
		g, ok := program.All[d.Name]
		if !ok || len(d.Spec.Template.Spec.Containers) != 1 {
			p.add("Deployment %s: want one container, of bridge, ssenode or publisher", d.Name)
			continue
		}
		c := &d.Spec.Template.Spec.Containers[0]
		if !slices.Equal(c.Command, g.Command) || len(c.Args) > 0 {
			p.add("Deployment %s: command %q, want %q", d.Name, c.Command, g.Command)
		}
		env, hidden := map[string]string{}, map[string]string{}
		for _, from := range c.EnvFrom {
			switch {
			case from.ConfigMapRef != nil:
				name := from.ConfigMapRef.Name
				m, ok := o.configs[name]
				if !ok {
					p.add("Deployment %s: no ConfigMap %s", d.Name, name)
					continue
				}
				readers[name] = append(readers[name], d.Name)
				maps.Copy(env, m.Data)
				maps.Copy(hidden, m.Data)
			case from.SecretRef != nil:
				name := from.SecretRef.Name
				s, ok := secrets[name]
				used[name] = true
				if !ok {
					p.add("Deployment %s: the README does not say how to make the Secret %s", d.Name, name)
				}
				for key := range s {
					if !g.Knows(key) {
						p.add("README: %s in the Secret %s is no setting of %s", key, name, d.Name)
					}
				}
				maps.Copy(env, s)
			}
		}
		own := variables(c)
		memory("Deployment "+d.Name, c, own["GOMEMLIMIT"], p)
		delete(own, "GOMEMLIMIT")
		for key := range own {
			if !g.Knows(key) {
				p.add("Deployment %s: %s is no setting of it", d.Name, key)
			}
		}
		maps.Copy(env, own)
		f, err := g.Read(env)
		if err != nil {
			p.add("Deployment %s: %v", d.Name, err)
			continue
		}
		fits(d, f, p)
		o.reaches(d, f, p)
		// Once more with what the Secret has hidden: other Secrets may hide less.
		maps.Copy(env, hidden)
		if _, err := g.Read(env); err != nil {
			p.add("Deployment %s, ConfigMaps: %v", d.Name, err)
		}
	}
	for name := range secrets {
		if !used[name] {
			p.add("README: nobody reads the Secret %s", name)
		}
	}
	for name, m := range o.configs {
		for key := range m.Data {
			if !slices.ContainsFunc(readers[name], func(d string) bool { return program.All[d].Knows(key) }) {
				p.add("ConfigMap %s: %s is no setting of %s", name, key, strings.Join(readers[name], ", "))
			}
		}
	}
}

// fits compares ports and times.
func fits(d *apps.Deployment, f program.Facts, p *problems) {
	ports := map[string]int32{}
	for _, port := range d.Spec.Template.Spec.Containers[0].Ports {
		ports[port.Name] = port.ContainerPort
	}
	for name, addr := range f.Ports {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || port != strconv.Itoa(int(ports[name])) {
			p.add("Deployment %s: listens on %s, its port %s is %d", d.Name, addr, name, ports[name])
		}
		if host != "" {
			p.add("Deployment %s: listens on %s, which nobody reaches from outside of the pod", d.Name, addr)
		}
		delete(ports, name)
	}
	for name := range ports {
		p.add("Deployment %s: it has no port %s", d.Name, name)
	}
	want := int64((f.Drain + program.Reserve) / time.Second)
	if grace := d.Spec.Template.Spec.TerminationGracePeriodSeconds; grace == nil || *grace != want {
		p.add("Deployment %s: terminationGracePeriodSeconds is not %d, what it drains for and %s more", d.Name, want, program.Reserve)
	}
}

// reaches checks that the NetworkPolicy of a Deployment lets it connect where its
// settings say, and ask for names.
func (o *objects) reaches(d *apps.Deployment, f program.Facts, p *problems) {
	open := map[string]bool{}
	for _, n := range o.policies {
		if n.Name != d.Name {
			continue
		}
		for _, rule := range n.Spec.Egress {
			for _, port := range rule.Ports {
				protocol := core.ProtocolTCP
				if port.Protocol != nil {
					protocol = *port.Protocol
				}
				if port.Port != nil {
					open[string(protocol)+port.Port.String()] = true
				}
			}
		}
	}
	want := []string{"UDP53", "TCP53"}
	for _, list := range f.Dials {
		for one := range strings.SplitSeq(list, ",") {
			if u, err := url.Parse(one); err == nil {
				want = append(want, "TCP"+u.Port())
			}
		}
	}
	for _, port := range want {
		if !open[port] {
			p.add("NetworkPolicy %s: it may not connect to port %s (%s)", d.Name, port[3:], port[:3])
		}
	}
}

// memory checks that Go begins to save before the kernel kills.
func memory(whose string, c *core.Container, limit string, p *problems) {
	// Go writes MiB where Kubernetes writes Mi.
	q, err := resource.ParseQuantity(strings.TrimSuffix(limit, "B"))
	if most := c.Resources.Limits.Memory().Value() / 10 * 9; err != nil || q.Value() > most {
		p.add("%s: GOMEMLIMIT=%q, want at most nine tenths of the memory limit", whose, limit)
	}
}
