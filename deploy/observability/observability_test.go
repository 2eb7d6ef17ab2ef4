// Package observability holds what Prometheus and Grafana need for Sluice: a sample of
// the configuration, alerts and a board. Its tests ask the real programs for their
// metrics, so that no alert and no panel can ask for one that is not there, and have
// promtool and Prometheus itself read the files.
package observability

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"sluice/bridge"
	"sluice/publisher"
	"sluice/shared/embedded"
	"sluice/shared/worker"
	"sluice/ssenode"
)

// wait bounds every wait of these tests; only a hang reaches it.
const wait = time.Minute

var client = &http.Client{Timeout: wait}

// installation is all workers in this process, with a Redis and a NATS of their own.
type installation struct {
	node  *ssenode.Node
	post  *publisher.Server
	admin map[string][]net.Addr // by worker
	stop  []func()              // of the bridges
}

// install starts two bridges, of which one stands by, a node and a publisher.
func install(t *testing.T) *installation {
	t.Helper()
	embedded.NeedLinux(t, "metrics of processes are others elsewhere")
	redisURL, natsURL := embedded.TestRedis(t).URL(), embedded.TestNATS(t).URL()
	log, in := embedded.TestLog(t), &installation{admin: map[string][]net.Addr{}}
	run := func(w worker.Worker, err error) (stop func()) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return embedded.TestRun(t, w.Run)
	}
	for range 2 {
		c := worker.Default[bridge.Config]()
		c.Admin.Addr, c.Redis.URL, c.NATS.URL, c.Bridge.MaxBytes = "127.0.0.1:0", redisURL, natsURL, 64<<20
		b, err := bridge.New(c, log)
		in.stop = append(in.stop, run(b, err))
		in.admin["bridge"] = append(in.admin["bridge"], b.Addr())
	}
	n := worker.Default[ssenode.Config]()
	n.Admin.Addr, n.SSENode.Addr, n.NATS.URL = "127.0.0.1:0", "127.0.0.1:0", natsURL
	n.SSENode.DrainDelay, n.SSENode.DrainTime = 0, 0
	var err error
	in.node, err = ssenode.New(n, log)
	run(in.node, err)
	p := worker.Default[publisher.ServeConfig]()
	p.Admin.Addr, p.Publisher.Addr, p.Redis.URL, p.NATS.URL = "127.0.0.1:0", "127.0.0.1:0", redisURL, natsURL
	p.Publisher.DrainDelay = 0
	in.post, err = publisher.New(p, log)
	run(in.post, err)
	in.admin["ssenode"], in.admin["publisher"] = []net.Addr{in.node.AdminAddr()}, []net.Addr{in.post.AdminAddr()}
	for name, list := range in.admin {
		for _, addr := range list {
			embedded.Eventually(t, name+" is ready", wait, func() bool {
				resp, err := client.Get("http://" + addr.String() + "/readyz")
				if err != nil {
					return false
				}
				resp.Body.Close()
				return resp.StatusCode == http.StatusOK
			})
		}
	}
	return in
}

// metrics are what Prometheus would have of it.
func (in *installation) metrics(t *testing.T) exposed {
	t.Helper()
	e := exposed{"up": {"job": nil, "instance": nil}}
	for name, list := range in.admin {
		for _, addr := range list {
			resp, err := client.Get("http://" + addr.String() + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
				if line := lines.Text(); line != "" && line[0] != '#' {
					if err := e.add(line); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
				}
			}
		}
	}
	return e
}

// promtool runs the program in this folder; what it finds wrong fails the test.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, embedded.NeedProgram(t, "promtool"), args...).CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// read decodes a YAML file, of which each field has to be known.
func read(t *testing.T, file string, into any) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// The sample is one that Prometheus takes, with the ports that the programs have.
func TestSampleConfiguration(t *testing.T) {
	promtool(t, "check", "config", "prometheus/prometheus.yml")
	var c struct {
		Global struct {
			Scrape   string `yaml:"scrape_interval"`
			Evaluate string `yaml:"evaluation_interval"`
		}
		Rules []string `yaml:"rule_files"`
		Jobs  []struct {
			Name    string                       `yaml:"job_name"`
			Targets []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	read(t, "prometheus/prometheus.yml", &c)
	addrs := map[string]string{
		"sluice-bridge":    worker.Default[bridge.Config]().Admin.Addr,
		"sluice-ssenode":   worker.Default[ssenode.Config]().Admin.Addr,
		"sluice-publisher": worker.Default[publisher.ServeConfig]().Admin.Addr,
	}
	for _, job := range c.Jobs {
		_, port, _ := net.SplitHostPort(addrs[job.Name])
		for _, target := range job.Targets[0].Targets {
			if _, got, err := net.SplitHostPort(target); err != nil || got != port {
				t.Errorf("%s: target %q, want the port %q of ADMIN_ADDR", job.Name, target, port)
			}
		}
		delete(addrs, job.Name)
	}
	if len(addrs) > 0 || len(c.Rules) != 1 || c.Rules[0] != "alerts.yml" {
		t.Errorf("no job for %v; rules %q", addrs, c.Rules)
	}
}

// The README explains each alert, and no other.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, a := range alerts(t) {
		known[a.Alert] = true
		row := fmt.Sprintf("| `%s` (%s) | ", a.Alert, a.Labels["severity"])
		if strings.Count(string(b), row) != 1 {
			t.Errorf("no row begins with %q", row)
		}
	}
	for _, name := range regexp.MustCompile(`\bSluice[A-Z]\w+`).FindAllString(string(b), -1) {
		if !known[name] {
			t.Errorf("%s is no alert", name)
		}
	}
}
