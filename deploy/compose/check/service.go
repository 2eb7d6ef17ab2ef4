package check

import (
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/go-units"

	"sluice/deploy/program"
)

// service checks what all of them have to have.
func (s *set) service(c *types.ServiceConfig) {
	bad := func(format string, args ...any) { s.add(c.Name+": "+format, args...) }
	switch {
	case !c.ReadOnly:
		bad("read_only is not true")
	case !slices.Equal(c.CapDrop, []string{"ALL"}) || len(c.CapAdd) > 0:
		bad("it keeps capabilities")
	case !slices.Contains(c.SecurityOpt, "no-new-privileges:true"):
		bad("no-new-privileges is not set")
	case c.Privileged || c.NetworkMode != "" || c.Pid != "" || c.Ipc != "" || len(c.Devices) > 0 || c.UseAPISocket:
		bad("it is too close to the machine")
	case strings.HasPrefix(c.User, "0") || c.User == "root":
		bad("it is root")
	case c.Restart != types.RestartPolicyUnlessStopped:
		bad("restart is %q", c.Restart)
	case c.MemLimit == 0 || c.PidsLimit == 0:
		bad("want limits of memory and processes")
	case c.Logging == nil || c.Logging.Options["max-size"] == "":
		bad("its log may fill the disk")
	}
	if h := c.HealthCheck; h == nil || len(h.Test) < 2 || h.Interval == nil || h.Timeout == nil || h.Retries == nil || h.StartPeriod == nil {
		bad("no health check with interval, timeout, retries and start period")
	}
	if target(c) == "" && !pinned(c.Image) {
		bad("image %q has no version", c.Image)
	}
	if name, tag, _ := strings.Cut(c.Image, ":"); name == "nats" {
		if want := s.module("github.com/nats-io/nats-server/v2"); !strings.HasPrefix(tag, want+"-") {
			bad("image %q, but %s is what is tested", c.Image, want)
		}
	}
	if c.Build != nil && (c.Build.Context != s.root && !sameDir(c.Build.Context, s.root) || c.Build.Dockerfile != dockerFile || s.image.stage(target(c)) == nil) {
		bad("it is built from %s, %s, %s", c.Build.Context, c.Build.Dockerfile, target(c))
	}
	for _, port := range c.Ports {
		if !listens(c, strconv.Itoa(int(port.Target))) {
			bad("port %d is published, but not exposed", port.Target)
		}
		if ip := net.ParseIP(port.HostIP); ip == nil || !ip.IsLoopback() {
			bad("port %d is open on %q", port.Target, port.HostIP)
		}
	}
	for _, v := range c.Volumes {
		if v.Type != types.VolumeTypeBind {
			continue
		}
		if !v.ReadOnly || v.Bind == nil || bool(v.Bind.CreateHostPath) {
			bad("%s: want it read-only, and an error if it is not there", v.Source)
		}
		if _, err := os.Stat(v.Source); err != nil {
			bad("%v", err)
		}
	}
	for name, d := range c.DependsOn {
		on := s.project.Services[name]
		if d.Condition == types.ServiceConditionHealthy && on.HealthCheck == nil {
			bad("it waits for %s, which has no health check", name)
		}
	}
}

// module is the version in go.mod of something that is used, without its v; with the name
// "go" that of the language.
func (s *set) module(name string) string {
	m := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(name) + ` v?(\d\S*)$`).FindStringSubmatch(s.text("go.mod"))
	if m == nil {
		s.add("go.mod has no %s", name)
		return "?"
	}
	return m[1]
}

func sameDir(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// program gives one of our programs the environment of its service and compares: names,
// values, ports, whom it connects to, time to drain, memory.
func (s *set) program(c *types.ServiceConfig) {
	bad := func(format string, args ...any) { s.add(c.Name+": "+format, args...) }
	name := target(c)
	if name == "" {
		return
	}
	p, found := program.All[name]
	if !found {
		bad("target %q is none of the programs", name)
		return
	}
	if len(c.Command) > 0 || len(c.Entrypoint) > 0 || c.User != "" {
		bad("command and user are the image's")
	}
	if h := c.HealthCheck; h != nil && !slices.Equal(h.Test, []string{"CMD", p.Command[0], "ready"}) {
		bad("health check %q, want that of %s ready", h.Test, p.Command[0])
	}
	own := env(c)
	// Go begins to save before the kernel kills. Go writes MiB where Docker writes m.
	limit, err := units.RAMInBytes(own["GOMEMLIMIT"])
	if most := int64(c.MemLimit) / 10 * 9; err != nil || limit > most {
		bad("GOMEMLIMIT=%q, want at most nine tenths of the memory limit", own["GOMEMLIMIT"])
	}
	delete(own, "GOMEMLIMIT")
	for key := range own {
		if !p.Knows(key) {
			bad("%s is no setting of %s", key, name)
		}
	}
	f, err := p.Read(own)
	if err != nil {
		bad("%v", err)
		return
	}
	for kind, addr := range f.Ports {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host != "" || !listens(c, port) {
			bad("%s is %s, which nobody reaches, or is not exposed", kind, addr)
		}
	}
	if len(c.Expose) != len(f.Ports) {
		bad("exposes %q, but listens on %q", c.Expose, f.Ports)
	}
	if want := f.Drain + program.Reserve; c.StopGracePeriod == nil || time.Duration(*c.StopGracePeriod) != want {
		bad("stop_grace_period is not %s, what it drains for and %s more", want, program.Reserve)
	}
	for _, dial := range f.Dials {
		for _, one := range list(dial) {
			u, err := url.Parse(one)
			if err != nil {
				bad("%v", err)
				continue
			}
			s.reaches(c, "its environment", u.Hostname(), u.Port())
			if _, waits := c.DependsOn[u.Hostname()]; !waits {
				bad("it does not wait for %s", u.Hostname())
			}
		}
	}
}
