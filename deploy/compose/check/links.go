package check

import (
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/compose-spec/compose-go/v2/types"

	"sluice/deploy/program"
)

// named are the variables that haproxy.cfg is filled with.
var named = regexp.MustCompile(`\$\{(LB_\w+)\}`)

// balancer checks that HAProxy gets the variables that its file has, no others, and that
// they name nodes, their admin ports and the publisher; and that these keep their
// addresses, as HAProxy looks names up only once.
func (s *set) balancer() {
	c, found := s.project.Services["balancer"]
	if !found {
		s.add("no service balancer")
		return
	}
	given := env(&c)
	asked := map[string]bool{}
	for _, m := range named.FindAllStringSubmatch(s.mounted(&c, "haproxy.cfg"), -1) {
		asked[m[1]] = true
		if given[m[1]] == "" {
			s.add("balancer: haproxy.cfg asks for %s", m[1])
		}
	}
	behind := map[string]bool{}
	for key, value := range given {
		if !asked[key] {
			s.add("balancer: haproxy.cfg does not ask for %s", key)
		}
		host, port, err := net.SplitHostPort(value)
		if err != nil || host == "" {
			continue
		}
		s.reaches(&c, key, host, port)
		behind[host] = true
		to := s.project.Services[host]
		want := "ssenode"
		if key == "LB_PUBLISHER" {
			want = "publisher"
		}
		if target(&to) != want {
			s.add("balancer: %s names %s, want a service of %s", key, host, want)
			continue
		}
		f, known := facts(&to)
		if !known {
			continue // said by program
		}
		if f.Ports["http"] != ":"+port {
			s.add("balancer: %s names port %s, but %s listens on %s", key, port, host, f.Ports["http"])
		}
		if admin, given := given[key+"_ADMIN"]; given && f.Ports["admin"] != ":"+admin {
			s.add("balancer: %s_ADMIN is %s, but %s has %s", key, admin, host, f.Ports["admin"])
		}
		for name, n := range to.Networks {
			if _, both := c.Networks[name]; both && (n == nil || n.Ipv4Address == "") {
				s.add("%s: its address on %s may change, and HAProxy would not notice", host, name)
			}
		}
		if trusted := env(&to)["SSENODE_TRUSTED_PROXIES"]; want == "ssenode" && !slices.Contains(addresses(&c), trusted) {
			s.add("%s: SSENODE_TRUSTED_PROXIES=%s is not the balancer's address", host, trusted)
		}
	}
	for name, other := range s.project.Services {
		if kind := target(&other); (kind == "ssenode" || kind == "publisher") && !behind[name] {
			s.add("balancer: nobody is sent to %s", name)
		}
	}
	if _, port, _ := net.SplitHostPort(given["LB_ADDR"]); !listens(&c, port) {
		s.add("balancer: it does not expose its port %s", port)
	}
}

// grafanaData is where Grafana has its database.
const grafanaData = "/var/lib/grafana"

// prometheus checks that it asks every program, on the port where it answers, and that
// Grafana finds it and the board.
func (s *set) prometheus() {
	c, found := s.project.Services["prometheus"]
	grafana, foundToo := s.project.Services["grafana"]
	if !found || !foundToo {
		s.add("no services prometheus and grafana")
		return
	}
	var config struct {
		Rules []string `yaml:"rule_files"`
		Jobs  []struct {
			Targets []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	s.parse(s.mounted(&c, "prometheus.yml"), &config)
	asked := map[string]bool{}
	for _, job := range config.Jobs {
		for _, t := range job.Targets {
			for _, one := range t.Targets {
				host, port, _ := net.SplitHostPort(one)
				s.reaches(&c, "prometheus.yml", host, port)
				asked[one] = true
			}
		}
	}
	for name, other := range s.project.Services {
		if f, known := facts(&other); known && !asked[name+f.Ports["admin"]] {
			s.add("prometheus: nobody asks %s for its metrics", name)
		}
	}
	for _, rules := range config.Rules {
		s.mounted(&c, rules)
	}
	var sources struct{ Datasources []struct{ URL string } }
	s.parse(s.mounted(&grafana, "datasources/prometheus.yml"), &sources)
	for _, d := range sources.Datasources {
		host, port, _ := net.SplitHostPort(strings.TrimPrefix(d.URL, "http://"))
		s.reaches(&grafana, "the data source", host, port)
	}
	// Only a new database takes the password of the environment.
	if !slices.ContainsFunc(grafana.Tmpfs, func(t string) bool { return strings.HasPrefix(t+":", grafanaData+":") }) {
		s.add("grafana: %s outlives it, and with it an old password", grafanaData)
	}
	var boards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	s.parse(s.mounted(&grafana, "dashboards/sluice.yml"), &boards)
	for _, p := range boards.Providers {
		if !slices.ContainsFunc(grafana.Volumes, func(v types.ServiceVolumeConfig) bool {
			return v.Target == p.Options.Path && filepath.Base(v.Source) == "dashboards"
		}) {
			s.add("grafana: no board is mounted to %s", p.Options.Path)
		}
	}
}

func (s *set) parse(text string, into any) {
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		s.add("%v", err)
	}
}

// mounted is the text of a file in a container, named by the end of its path.
func (s *set) mounted(c *types.ServiceConfig, name string) string {
	for _, v := range c.Volumes {
		if v.Type != types.VolumeTypeBind {
			continue
		}
		file := v.Source
		if dir, _ := filepath.Split(name); dir != "" {
			file = filepath.Join(v.Source, name)
		} else if filepath.Base(v.Target) != name {
			continue
		}
		if rel, err := filepath.Rel(s.project.WorkingDir, file); err == nil {
			if text := s.optional(filepath.Join(composeDir, rel)); text != "" {
				return text
			}
		}
	}
	s.add("%s: no %s is mounted", c.Name, name)
	return ""
}

// addresses are those that a service always has.
func addresses(c *types.ServiceConfig) (all []string) {
	for _, n := range c.Networks {
		if n != nil && n.Ipv4Address != "" {
			all = append(all, n.Ipv4Address)
		}
	}
	return all
}

// facts are what the program of a service would do, if it is one of ours and would start.
func facts(c *types.ServiceConfig) (program.Facts, bool) {
	p, found := program.All[target(c)]
	if !found {
		return program.Facts{}, false
	}
	f, err := p.Read(env(c))
	return f, err == nil
}
