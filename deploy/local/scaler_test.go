package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"sluice/shared/embedded"
)

// scaler does on one machine what KEDA and Kubernetes do with
// overlays/keda/scaledobject.yaml: it asks a Prometheus that asks the nodes, by the very
// query of its trigger "connections", and starts node processes or drains them. What it
// does not take from the file: how many clients are one node's, and how often it looks,
// are for a test; and the trigger "deliveries" is left out, as its mean of two minutes
// would make this one wait.
type scaler struct {
	t          *testing.T
	b          *balanced
	prometheus *embedded.Process
	targets    string // file that Prometheus finds nodes in
	query      string
	threshold  float64 // of connections, for each node
	percent    int     // by how much it may grow at once
	most       int     // nodes
	env        []string
	draining   *proc // the one that is being stopped
	wanted     []int // of late
	steps      []int // how many nodes there were
}

const (
	// scaleEvery is the time between two looks; a node goes only if that was so in
	// calmLooks of them, which stands for stabilizationWindowSeconds.
	scaleEvery = 500 * time.Millisecond
	calmLooks  = 4
	// tolerance is Kubernetes' own: no step for less.
	tolerance = 0.1
)

// newScaler has the site's first node behind the balancer, and no other.
func newScaler(b *balanced, threshold float64, most int, env ...string) *scaler {
	t := b.t
	t.Helper()
	s := &scaler{t: t, b: b, threshold: threshold, most: most, env: env, targets: filepath.Join(t.TempDir(), "nodes.json")}
	text, err := os.ReadFile("../kubernetes/overlays/keda/scaledobject.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var object struct {
		Spec struct {
			Triggers []struct {
				Name     string
				Metadata struct{ Query string }
			}
			Advanced struct {
				Config struct {
					Behavior struct {
						ScaleUp struct {
							Policies []struct {
								Type  string
								Value int
							}
						} `yaml:"scaleUp"`
					}
				} `yaml:"horizontalPodAutoscalerConfig"`
			}
		}
	}
	if err := yaml.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	for _, trigger := range object.Spec.Triggers {
		if trigger.Name == "connections" {
			s.query = trigger.Metadata.Query
		}
	}
	for _, p := range object.Spec.Advanced.Config.Behavior.ScaleUp.Policies {
		if p.Type == "Percent" {
			s.percent = p.Value
		}
	}
	if s.query == "" || s.percent == 0 {
		t.Fatalf("no trigger, or no policy in scaledobject.yaml: %+v", object)
	}
	b.keep(1)
	b.reload()
	s.announce()
	config, err := yaml.Marshal(map[string]any{
		"global": map[string]any{"scrape_interval": scaleEvery.String()},
		"scrape_configs": []any{map[string]any{
			"job_name": "sluice-ssenode", "file_sd_configs": []any{map[string]any{"files": []string{s.targets}, "refresh_interval": "1s"}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.prometheus = embedded.TestPrometheus(t, string(config))
	s.steps = []int{1}
	return s
}

// announce tells Prometheus of all nodes, as the API of Kubernetes does, also of the one
// that drains.
func (s *scaler) announce() {
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	var groups []group
	for _, p := range s.b.nodes {
		groups = append(groups, group{[]string{strings.TrimPrefix(p.admin(), "http://")}, map[string]string{"namespace": "sluice"}})
	}
	text, err := json.Marshal(groups)
	if err != nil {
		s.t.Fatal(err)
	}
	// In one step: Prometheus may read it at any time.
	if err := os.WriteFile(s.targets+".new", text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(s.targets+".new", s.targets); err != nil {
		s.t.Fatal(err)
	}
}

// ask is what a query gives: the value of each series.
func (s *scaler) ask(query string) (values []float64) {
	s.t.Helper()
	code, text := fetch(s.t, s.prometheus.URL()+"/api/v1/query?query="+url.QueryEscape(query))
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if err := json.Unmarshal([]byte(text), &answer); code != 200 || err != nil {
		s.t.Fatalf("%s: %d %s, %v", query, code, text, err)
	}
	for _, r := range answer.Data.Result {
		v, err := strconv.ParseFloat(fmt.Sprint(r.Value[1]), 64)
		if err != nil {
			s.t.Fatal(err)
		}
		values = append(values, v)
	}
	return values
}

// current is how many nodes are to stay.
func (s *scaler) current() int {
	if s.draining != nil {
		return len(s.b.nodes) - 1
	}
	return len(s.b.nodes)
}

// want is the autoscaler's rule for an AverageValue: as many as make the mean one of the
// threshold at most, and no change for less than the tolerance.
func (s *scaler) want(value float64) int {
	n := s.current()
	if ratio := value / (s.threshold * float64(n)); math.Abs(1-ratio) <= tolerance {
		return n
	}
	return min(max(int(math.Ceil(value/s.threshold)), 1), s.most)
}

// look asks once, and does what follows from it. It does not wait for a node to drain.
func (s *scaler) look() {
	s.t.Helper()
	s.buried()
	values := s.ask(s.query)
	if len(values) != 1 {
		return // no answer is not "no clients"
	}
	n := s.current()
	s.wanted = append(s.wanted, s.want(values[0]))
	s.wanted = s.wanted[max(0, len(s.wanted)-calmLooks):]
	switch up, down := s.wanted[len(s.wanted)-1], slices.Max(s.wanted); {
	case up > n && s.draining == nil:
		s.grow(min(up, n+n*s.percent/100))
	case down < n && len(s.wanted) == calmLooks && s.draining == nil:
		s.draining = s.b.nodes[n-1]
		_ = s.draining.cmd.Process.Signal(syscall.SIGTERM)
		s.steps = append(s.steps, s.current())
	}
}

// grow starts nodes, and puts them into HAProxy's file, as deploy/lb says.
func (s *scaler) grow(n int) {
	s.t.Helper()
	for len(s.b.nodes) < n {
		p := s.b.site.addNode(fmt.Sprint("n", len(s.b.nodes)+1), "127.0.0.1:0", "127.0.0.1:0", s.env...)
		s.b.nodes = append(s.b.nodes, p)
		s.b.add(p.addrs())
	}
	s.b.reload()
	s.announce()
	s.steps = append(s.steps, s.current())
}

// buried forgets a node that has drained. HAProxy sees that it is down; its line goes with
// the next reload.
func (s *scaler) buried() {
	if s.draining == nil {
		return
	}
	select {
	case <-s.draining.done:
	default:
		return
	}
	if code := s.draining.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("a node that was drained ended with %d", code)
	}
	s.draining = nil
	s.b.nodes = s.b.nodes[:len(s.b.nodes)-1]
	s.b.keep(len(s.b.nodes))
	s.announce()
}

// until lets it do its work until something is so.
func (s *scaler) until(what string, f func() bool) {
	s.t.Helper()
	embedded.EventuallyEvery(s.t, what, 2*wait, scaleEvery, func() bool { s.look(); return f() })
}
