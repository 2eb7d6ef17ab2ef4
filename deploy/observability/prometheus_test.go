package observability

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
)

// Prometheus asks the programs while events go through them: it understands what they
// say, every panel of the board has something to show, and no alert fires.
func TestPrometheusReadsThePrograms(t *testing.T) {
	in := install(t)
	rules, err := filepath.Abs("prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var jobs []any
	for name, list := range in.admin {
		var targets []string
		for _, addr := range list {
			targets = append(targets, addr.String())
		}
		jobs = append(jobs, map[string]any{"job_name": "sluice-" + name, "static_configs": []any{map[string]any{"targets": targets}}})
	}
	config, err := yaml.Marshal(map[string]any{
		"global":     map[string]any{"scrape_interval": "500ms", "evaluation_interval": "500ms"},
		"rule_files": []string{rules}, "scrape_configs": jobs,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := embedded.TestPrometheus(t, string(config))
	in.traffic(t)

	type question struct{ panel, expr string }
	var open []question
	for _, p := range loadBoard(t).Panels {
		for _, x := range p.Targets {
			open = append(open, question{p.Title, filled(x.Expr, "10s")})
		}
	}
	defer func() {
		if t.Failed() {
			t.Errorf("nothing to show: %q", open)
		}
	}()
	embedded.EventuallyEvery(t, "every panel has something to show", wait, 500*time.Millisecond, func() bool {
		open = slices.DeleteFunc(open, func(q question) bool {
			var answer struct{ Data struct{ Result []any } }
			ask(t, server, "/api/v1/query?query="+url.QueryEscape(q.expr), &answer)
			return len(answer.Data.Result) > 0
		})
		return len(open) == 0
	})

	var wrong []string
	defer func() {
		if t.Failed() {
			t.Errorf("not as it should be: %q", wrong)
		}
	}()
	embedded.EventuallyEvery(t, "all alerts are evaluated, and quiet", wait, 500*time.Millisecond, func() bool {
		var known int
		known, wrong = loud(t, server)
		return known == len(alerts(t)) && len(wrong) == 0
	})
}

// loud tells which alerts fire, or would after a while, or cannot be evaluated, and how
// many there are. This machine may be slow: alerts that say so count only if they fire.
func loud(t *testing.T, server *embedded.Process) (known int, list []string) {
	t.Helper()
	var state struct {
		Data struct {
			Groups []struct {
				Name  string
				Rules []struct{ Name, State, Health, LastError string }
			}
		}
	}
	ask(t, server, "/api/v1/rules", &state)
	for _, g := range state.Data.Groups {
		slow := g.Name == "sluice-slow" || g.Name == "sluice-scale"
		for _, r := range g.Rules {
			known++
			patient := r.State == "pending" && (slow || r.Name == "SluiceStreamSlow")
			if r.Health != "ok" || r.State != "inactive" && !patient {
				list = append(list, fmt.Sprint(r.Name, " is ", r.State, " ", r.Health, " ", r.LastError))
			}
		}
	}
	return known, list
}

func ask(t *testing.T, server *embedded.Process, path string, into any) {
	t.Helper()
	resp, err := client.Get(server.URL() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// traffic publishes events over HTTP until the test ends, to one client, and a first
// one that it waits for.
func (in *installation) traffic(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	s, err := sseclient.Open(ctx, "http://"+in.node.Addr().String()+"/events?channel=a", sseclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if _, err := s.NextData(wait); err != nil { // connected
		t.Fatal(err)
	}
	post := func() {
		resp, err := client.Post("http://"+in.post.Addr().String()+"/publish/a", "text/plain", strings.NewReader("x"))
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("answered %s", resp.Status)
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
	post()
	if ev, err := s.NextData(wait); err != nil || ev.Data != "x" {
		t.Fatalf("got %+v, %v", ev, err)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				post()
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() { close(done); <-ended })
}
