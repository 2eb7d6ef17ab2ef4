package observability

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// alert is one of prometheus/alerts.yml.
type alert struct {
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) (list []alert) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	read(t, "prometheus/alerts.yml", &file)
	for _, g := range file.Groups {
		list = append(list, g.Rules...)
	}
	if len(list) == 0 {
		t.Fatal("no alerts")
	}
	return list
}

// ruleTest is one of prometheus/tests.
type ruleTest struct {
	Rules    []string `yaml:"rule_files"`
	Interval string   `yaml:"evaluation_interval"`
	Tests    []struct {
		Interval string
		Input    []struct{ Series, Values string } `yaml:"input_series"`
		Alerts   []struct {
			At     string `yaml:"eval_time"`
			Name   string `yaml:"alertname"`
			Expect []struct {
				Labels      map[string]string `yaml:"exp_labels"`
				Annotations map[string]string `yaml:"exp_annotations"`
			} `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

// Each alert asks for what the programs expose, says whom it concerns and what is the
// matter, and has a test in which it fires and one in which it does not. Those tests,
// too, are about metrics that there are.
func TestAlerts(t *testing.T) {
	promtool(t, "check", "rules", "prometheus/alerts.yml")
	files, err := filepath.Glob("prometheus/tests/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	promtool(t, append([]string{"test", "rules"}, files...)...)
	have := install(t).metrics(t)
	for _, a := range alerts(t) {
		if err := have.check(a.Expr); err != nil {
			t.Errorf("%s: %v", a.Alert, err)
		}
		if s := a.Labels["severity"]; len(a.Labels) != 1 || s != "page" && s != "ticket" {
			t.Errorf("%s: labels %v, want severity page or ticket", a.Alert, a.Labels)
		}
		if a.Annotations["summary"] == "" || len(a.Annotations) != 1 {
			t.Errorf("%s: annotations %v, want a summary", a.Alert, a.Annotations)
		}
		file := "prometheus/tests/" + a.Alert + ".yml"
		files = slices.DeleteFunc(files, func(f string) bool { return f == file })
		if _, err := os.Stat(file); err != nil {
			t.Errorf("%s has no test: %v", a.Alert, err)
			continue
		}
		checkRuleTest(t, file, a, have)
	}
	if len(files) > 0 {
		t.Errorf("tests of no alert: %q", files)
	}
}

// The labels in the text of an alert are those that its test gives it.
var shown = regexp.MustCompile(`\$labels\.(\w+)`)

func checkRuleTest(t *testing.T, file string, a alert, have exposed) {
	t.Helper()
	var rt ruleTest
	read(t, file, &rt)
	fires, quiet := 0, 0
	for _, test := range rt.Tests {
		for _, in := range test.Input {
			list, _, err := selectors(in.Series)
			if err != nil || len(list) != 1 {
				t.Errorf("%s: %s: %v", file, in.Series, err)
				continue
			}
			s := list[0]
			// What is not Sluice's has labels of its own.
			if foreign := strings.Contains(in.Series, `job="other"`) || strings.Contains(in.Series, `job="node-exporter"`); foreign {
				continue
			}
			for label, values := range have[s.metric] {
				i := slices.IndexFunc(s.matchers, func(m matcher) bool { return m.label == label })
				// Versions and bounds of histograms may be any.
				if i < 0 || values != nil && s.metric != "sluice_build_info" && label != "le" && !s.matchers[i].fits(values) {
					t.Errorf("%s: %s: want a label %s, of %q", file, in.Series, label, values)
				}
			}
			if len(s.matchers) != len(have[s.metric]) {
				t.Errorf("%s: %s is not as it is exposed, with %d labels", file, in.Series, len(have[s.metric]))
			}
		}
		for _, x := range test.Alerts {
			if x.Name != a.Alert {
				t.Errorf("%s is about %s", file, x.Name)
			}
			if len(x.Expect) == 0 {
				quiet++
				continue
			}
			fires++
			for _, label := range shown.FindAllStringSubmatch(a.Annotations["summary"], -1) {
				if x.Expect[0].Labels[label[1]] == "" {
					t.Errorf("%s: the summary has a label %s, and the alert has none", file, label[1])
				}
			}
		}
	}
	if fires == 0 || quiet == 0 || a.For != "" && quiet < 2 {
		t.Errorf("%s: fires %d times and %d times not: want each, and not before %q is over", file, fires, quiet, a.For)
	}
}
