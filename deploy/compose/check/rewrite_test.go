package check

import (
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
)

// place is what stands for a container's network and file system when its process runs on
// this machine. What the file says is changed by these rules, and nothing else is:
//
//   - service:port, of an exposed port of a service, is 127.0.0.1 and a free port.
//   - 0.0.0.0:port, 127.0.0.1:port and a port alone behind a colon, of an own exposed
//     port, is 127.0.0.1 and that one's free port; so is an own port as a word of a
//     command.
//   - LB_NODE1_ADMIN is only a port: that of the service which LB_NODE1 names.
//   - A fixed address of a service is 127.0.0.1.
//   - A path that is mounted is in a directory of the test's.
//   - Connections at most, behind -n, are fewer where this machine has too few open files.
type place struct {
	project *types.Project
	dir     string
	ports   map[string]int // service:port
	mounts  map[string]*regexp.Regexp
}

func newPlace(t *testing.T, project *types.Project) *place {
	t.Helper()
	p := &place{project: project, dir: t.TempDir(), ports: map[string]int{}, mounts: map[string]*regexp.Regexp{}}
	for name, c := range project.Services {
		for _, port := range c.Expose {
			p.ports[name+":"+port] = freePort(t)
		}
		var targets []string
		for _, v := range c.Volumes {
			targets = append(targets, regexp.QuoteMeta(v.Target))
		}
		for _, v := range c.Tmpfs {
			target, _, _ := strings.Cut(v, ":")
			targets = append(targets, regexp.QuoteMeta(target))
		}
		// The longest first: one may be within another.
		slices.SortFunc(targets, func(a, b string) int { return len(b) - len(a) })
		if len(targets) > 0 {
			p.mounts[name] = regexp.MustCompile(`(^|[\s"'=])(` + strings.Join(targets, "|") + `)($|[/\s"'])`)
		}
	}
	return p
}

// given are ports that were free: no two services get the same one.
var given = map[int]bool{}

// freePort is one below those that the kernel gives to connections: between its choice
// and its use there are seconds, in which many connections are made.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 15000 + rand.IntN(15000)
		if given[port] {
			continue
		}
		given[port] = true
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// addr is where a service's port is.
func (p *place) addr(service, port string) string {
	found := p.ports[service+":"+port]
	if found == 0 {
		panic(fmt.Sprintf("%s has no port %s", service, port))
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(found))
}

// path is where a container's path is.
func (p *place) path(service, path string) string { return p.dir + "/" + service + path }

var (
	pair = regexp.MustCompile(`(^|[^\w.])([a-z][\w-]*|0\.0\.0\.0|127\.0\.0\.1)?:(\d+)\b`)
	word = regexp.MustCompile(`(^|\s)(\d+)($|\s)`)
)

// text is a value or a file of a service, by the rules.
func (p *place) text(service, text string) string {
	text = pair.ReplaceAllStringFunc(text, func(s string) string {
		m := pair.FindStringSubmatch(s)
		of := m[2]
		if of == "" || of[0] == '0' || of[0] == '1' {
			of = service
		}
		if p.ports[of+":"+m[3]] == 0 {
			return s
		}
		return m[1] + p.addr(of, m[3])
	})
	for _, c := range p.project.Services {
		for _, fixed := range addresses(&c) {
			text = regexp.MustCompile(`\b`+regexp.QuoteMeta(fixed)+`\b`).ReplaceAllString(text, "127.0.0.1")
		}
	}
	if mounts := p.mounts[service]; mounts != nil {
		text = mounts.ReplaceAllString(text, "${1}"+p.path(service, "")+"$2$3")
	}
	return text
}

// command is one, word by word.
func (p *place) command(service string, args []string) (all []string) {
	for n, arg := range args {
		if n > 0 && args[n-1] == "-n" {
			all = append(all, connections(arg))
			continue
		}
		arg = word.ReplaceAllStringFunc(p.text(service, arg), func(s string) string {
			m := word.FindStringSubmatch(s)
			if port := p.ports[service+":"+m[2]]; port != 0 {
				return m[1] + strconv.Itoa(port) + m[3]
			}
			return s
		})
		all = append(all, arg)
	}
	return all
}

// connections is as many as are asked for, but of the open files that this process may
// have two each, and as many again for all else: HAProxy would not start.
func connections(asked string) string {
	n, err := strconv.ParseUint(asked, 10, 64)
	var files syscall.Rlimit
	if err != nil || syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil {
		return asked
	}
	return strconv.FormatUint(min(n, uint64(files.Max)/4), 10)
}

// environment is a service's, as a process gets it.
func (p *place) environment(c *types.ServiceConfig) (all []string) {
	own := env(c)
	for key, value := range own {
		if of, found := strings.CutSuffix(key, "_ADMIN"); found && own[of] != "" {
			host, _, _ := strings.Cut(own[of], ":")
			value = strconv.Itoa(p.ports[host+":"+value])
		}
		all = append(all, key+"="+p.text(c.Name, value))
	}
	return all
}

// The rules are what they say.
func TestRewrite(t *testing.T) {
	project, err := Load(t.Context(), tree(t))
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, project)
	for _, c := range []struct{ service, from, to string }{
		{"bridge1", ":9101", p.addr("bridge1", "9101")},
		{"bridge1", "redis://bridge:n1@redis:6379", "redis://bridge:n1@" + p.addr("redis", "6379")},
		{"bridge1", "nats://a:b@nats1:4222,nats://a:b@nats3:4222", "nats://a:b@" + p.addr("nats1", "4222") + ",nats://a:b@" + p.addr("nats3", "4222")},
		{"nats2", `listen: "0.0.0.0:4222"`, `listen: "` + p.addr("nats2", "4222") + `"`},
		{"nats2", `["nats://routes:x@nats1:6222"]`, `["nats://routes:x@` + p.addr("nats1", "6222") + `"]`},
		{"nats2", `store_dir: "/tmp/nats/jetstream"`, `store_dir: "` + p.dir + `/nats2/tmp/nats/jetstream"`},
		{"prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--config.file=" + p.dir + "/prometheus/etc/prometheus/prometheus.yml"},
		{"prometheus", "--web.listen-address=:9090", "--web.listen-address=" + p.addr("prometheus", "9090")},
		{"prometheus", "targets: [bridge1:9101, bridge2:9101]", "targets: [" + p.addr("bridge1", "9101") + ", " + p.addr("bridge2", "9101") + "]"},
		{"ssenode1", "172.30.99.2", "127.0.0.1"},
		{"ssenode1", "172.30.99.20", "172.30.99.20"},
		{"ssenode1", "game:> history=5000/10m", "game:> history=5000/10m"},
		{"ssenode1", "10.0.0.1:8081 redis:1 /tmp", "10.0.0.1:8081 redis:1 /tmp"},
	} {
		if got := p.text(c.service, c.from); got != c.to {
			t.Errorf("%s: %q is %q, want %q", c.service, c.from, got, c.to)
		}
	}
	got := p.command("redis", []string{"--port", "6379", "redis-cli -p 6379 ping", "16379"})
	port := strconv.Itoa(p.ports["redis:6379"])
	if want := []string{"--port", port, "redis-cli -p " + port + " ping", "16379"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := p.command("balancer", []string{"-n", "10", "10"}); !slices.Equal(got, []string{"-n", "10", "10"}) {
		t.Errorf("10 connections are %q", got)
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	const many = "1000000000000"
	if n, err := strconv.ParseUint(p.command("balancer", []string{"-n", many})[1], 10, 64); err != nil || files.Max < 1e12 && 2*n+1000 > files.Max {
		t.Errorf("%d connections of %d files: %v", n, files.Max, err)
	}
	balancer := project.Services["balancer"]
	if want := "LB_NODE2_ADMIN=" + strconv.Itoa(p.ports["ssenode2:9102"]); !slices.Contains(p.environment(&balancer), want) {
		t.Errorf("no %s in %q", want, p.environment(&balancer))
	}
}
