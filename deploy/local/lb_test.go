package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/shared/embedded"
)

// balancers are the programs of deploy/lb.
var balancers = []string{"nginx", "haproxy"}

// secret is a token in an address, which no log may have.
const secret = "hush-hush"

// balancer is one of them, with its file of deploy/lb, in front of addresses that the
// test gives it.
type balancer struct {
	*embedded.Process
	t      testing.TB
	name   string
	url    string
	ca     *embedded.Authority
	vars   map[string]string // what stands for ${NAME}
	config string            // of deploy/lb, as the test has changed it
	file   string            // what the program reads
}

// newBalancer starts a balancer of three nodes, some of which may be the same, and a
// publisher, all as host:port. admins are the nodes' admin addresses.
func newBalancer(t testing.TB, name string, nodes, admins []string, publisher string) *balancer {
	t.Helper()
	b := &balancer{t: t, name: name, ca: embedded.TestAuthority(t), vars: map[string]string{"LB_PUBLISHER": publisher}}
	for i := range nodes {
		b.set(i+1, nodes[i], admins[i])
	}
	b.vars["LB_CERT"], b.vars["LB_KEY"] = b.ca.Issue(t, "localhost")
	dir := t.TempDir()
	b.vars["LB_PEM"] = filepath.Join(dir, "site.pem")
	var pem []byte
	for _, file := range []string{b.vars["LB_CERT"], b.vars["LB_KEY"]} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pem = append(pem, text...)
	}
	if err := os.WriteFile(b.vars["LB_PEM"], pem, 0o600); err != nil {
		t.Fatal(err)
	}
	sample := map[string]string{"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}[name]
	text, err := os.ReadFile(filepath.Join("../lb", sample))
	if err != nil {
		t.Fatal(err)
	}
	b.config, b.file = string(text), filepath.Join(dir, sample)
	b.Process = embedded.TestProgram(t, name, func(port int) []string {
		b.vars["LB_ADDR"] = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		b.write()
		return b.args()
	}, b.answers)
	b.url = "https://" + b.Addr()
	t.Cleanup(func() {
		if strings.Contains(b.Output(), secret) {
			t.Errorf("%s logs tokens", name)
		}
	})
	return b
}

// set gives a node an address; it counts from the next write on.
func (b *balancer) set(node int, addr, admin string) {
	b.t.Helper()
	_, port, err := net.SplitHostPort(admin)
	if err != nil {
		b.t.Fatal(err)
	}
	b.vars[fmt.Sprintf("LB_NODE%d", node)] = addr
	b.vars[fmt.Sprintf("LB_NODE%d_ADMIN", node)] = port
}

// add is what an operator does for one node more: a line like that of the last one.
func (b *balancer) add(addr, admin string) {
	b.t.Helper()
	last := 1
	for b.vars[fmt.Sprintf("LB_NODE%d", last+1)] != "" {
		last++
	}
	line := regexp.MustCompile(fmt.Sprintf(`(?m)^ +server .*\$\{LB_NODE%d\}.*\n`, last))
	name := regexp.MustCompile(fmt.Sprintf(`(?i)(node)%d`, last))
	b.config = line.ReplaceAllStringFunc(b.config, func(s string) string {
		return s + name.ReplaceAllString(s, fmt.Sprintf("${1}%d", last+1))
	})
	b.set(last+1, addr, admin)
}

// keep takes the lines of all nodes above the n-th out of the file.
func (b *balancer) keep(n int) {
	for i := n + 1; b.vars[fmt.Sprintf("LB_NODE%d", i)] != ""; i++ {
		line := regexp.MustCompile(fmt.Sprintf(`(?m)^ +server .*\$\{LB_NODE%d\}.*\n`, i))
		b.config = line.ReplaceAllString(b.config, "")
		delete(b.vars, fmt.Sprintf("LB_NODE%d", i))
		delete(b.vars, fmt.Sprintf("LB_NODE%d_ADMIN", i))
	}
}

var placeholder = regexp.MustCompile(`\$\{(LB_\w+)\}`)

// write makes the file that the program reads. HAProxy replaces the names itself, out
// of its environment.
func (b *balancer) write() {
	text := b.config
	switch b.name {
	case "nginx":
		text = placeholder.ReplaceAllStringFunc(text, func(name string) string {
			value, found := b.vars[name[2:len(name)-1]]
			if !found {
				b.t.Errorf("%s is not set", name)
			}
			return value
		})
		// Debian's are for root alone.
		temp := ""
		for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
			temp += fmt.Sprintf("    %s_temp_path %s;\n", kind, filepath.Join(filepath.Dir(b.file), kind))
		}
		text = strings.Replace(text, "\nhttp {\n", "\nhttp {\n"+temp, 1)
	case "haproxy":
		// A program's environment does not change while it runs.
		env := "global\n"
		for name, value := range b.vars {
			env += "    setenv " + name + " " + value + "\n"
		}
		if err := os.WriteFile(b.file+".env", []byte(env), 0o600); err != nil {
			b.t.Error(err)
		}
	}
	if err := os.WriteFile(b.file, []byte(text), 0o600); err != nil {
		b.t.Error(err)
	}
}

func (b *balancer) args() []string {
	if b.name == "haproxy" {
		return []string{"-W", "-f", b.file + ".env", "-f", b.file}
	}
	global := "daemon off; pid " + b.file + ".pid;"
	if os.Getuid() == 0 {
		global += " user root;" // another one may not enter a test's directories
	}
	return []string{"-c", b.file, "-g", global}
}

// check is the program's own opinion on the file.
func (b *balancer) check() (string, error) {
	args := append([]string{"-t"}, b.args()...)
	if b.name == "haproxy" {
		args = append([]string{"-c"}, b.args()[1:]...)
	}
	out, err := exec.CommandContext(b.t.Context(), embedded.NeedProgram(b.t, b.name), args...).CombinedOutput()
	return string(out), err
}

// answers is true of this balancer and of no other program: only it has the certificate.
func (b *balancer) answers(ctx context.Context, addr string) error {
	c, err := (&tls.Dialer{Config: &tls.Config{RootCAs: b.ca.Pool}}).DialContext(ctx, "tcp", addr)
	if err == nil {
		c.Close()
	}
	return err
}

// workers is a line of the log that names a process which serves.
var workers = map[string]*regexp.Regexp{
	"nginx":   regexp.MustCompile(`start worker process \d+`),
	"haproxy": regexp.MustCompile(`New worker \(\d+\) forked`),
}

func (b *balancer) worker() string {
	list := workers[b.name].FindAllString(b.Output(), -1)
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}

// reload has the program read its file again, as an operator does, and returns when
// what it says is in force.
func (b *balancer) reload() {
	b.t.Helper()
	b.write()
	old := b.worker()
	if b.name == "haproxy" {
		// For a moment after its start, and after a reload, it ignores that signal.
		eventually(b.t, "haproxy can be reloaded", func() bool { return catches(b.t, b.Pid(), syscall.SIGUSR2) })
		if err := b.Signal(syscall.SIGUSR2); err != nil {
			b.t.Fatal(err)
		}
	} else if out, err := exec.CommandContext(b.t.Context(), embedded.NeedProgram(b.t, b.name), append([]string{"-s", "reload"}, b.args()...)...).CombinedOutput(); err != nil {
		b.t.Fatalf("%v: %s", err, out)
	}
	eventually(b.t, b.name+" is reloaded", func() bool { return b.worker() != old })
}

// client is a browser's side: HTTP/2, or HTTP/1.1, from any address of loopback.
func (b *balancer) client(http2 bool, from string) *http.Client {
	tr := &http.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: b.ca.Pool},
		ForceAttemptHTTP2:  http2,
		DisableCompression: true,
		DialContext:        (&net.Dialer{Timeout: wait, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext,
	}
	if !http2 {
		tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	b.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// The samples are what the programs take, without a warning; every name in them is
// explained; nothing in them cuts what is idle for three minutes.
func TestBalancerFiles(t *testing.T) {
	readme, err := os.ReadFile("../lb/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range balancers {
		t.Run(name, func(t *testing.T) {
			nowhere := []string{"127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1"}
			b := newBalancer(t, name, nowhere, nowhere, nowhere[0])
			if out, err := b.check(); err != nil || strings.Contains(strings.ToLower(out), "warn") {
				t.Errorf("%v: %s", err, out)
			}
			used := map[string]bool{}
			for _, found := range placeholder.FindAllStringSubmatch(b.config, -1) {
				used[found[1]] = true
			}
			for name := range used {
				if !strings.Contains(string(readme), "`"+name+"`") {
					t.Errorf("README.md does not explain %s", name)
				}
			}
			limits := regexp.MustCompile(`(?m)^ *(proxy_read_timeout|timeout client|timeout server|timeout tunnel) +(\w+)`).FindAllStringSubmatch(b.config, -1)
			for _, limit := range limits {
				if d, err := time.ParseDuration(limit[2]); err != nil || d <= 3*time.Minute {
					t.Errorf("%s %s cuts what is idle (%v)", limit[1], limit[2], err)
				}
			}
			if want := map[string]int{"nginx": 1, "haproxy": 2}[name]; len(limits) != want {
				t.Errorf("found %d limits of idle streams, want %d: %q", len(limits), want, limits)
			}
		})
	}
}
