package observability

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// board is Grafana's model of a dashboard as far as ours uses it: of Grafana there is
// neither a program at hand nor types that can be had.
type board struct {
	UID, Title, Description, Refresh, Timezone string

	Tags          []string
	SchemaVersion int
	Version       int
	Editable      bool
	Time          struct{ From, To string }
	Templating    struct {
		List []struct {
			Name, Type, Label, Query, AllValue string

			Datasource        source
			Refresh           int
			Multi, IncludeAll bool
			Current           struct{ Text, Value string }
		}
	}
	Panels []panel
}

type source struct{ Type, UID string }

type panel struct {
	ID                       int
	Type, Title, Description string
	Collapsed                bool
	Datasource               source
	GridPos                  struct{ H, W, X, Y int }
	FieldConfig              struct {
		Defaults  map[string]any
		Overrides []any
	}
	Options         map[string]any
	Transformations []any
	Targets         []struct {
		RefID, Expr, LegendFormat, Format string

		Datasource source
		Instant    bool
	}
	Panels []panel
}

func loadBoard(t *testing.T) (b board) {
	t.Helper()
	text, err := os.ReadFile("grafana/dashboards/sluice.json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		t.Fatal(err)
	}
	return b
}

// filled is an expression as Grafana sends it.
func filled(expr, interval string) string {
	return strings.NewReplacer("$__rate_interval", interval, "$node", ".*").Replace(expr)
}

// Each panel asks for what the programs expose, in PromQL, and none covers another.
func TestBoard(t *testing.T) {
	b := loadBoard(t)
	have := install(t).metrics(t)
	type rule struct{ Record, Expr string }
	var rules []rule
	ids, places, rows := map[int]bool{}, map[[2]int]string{}, 0
	for _, p := range b.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %q has the id %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if places[at] != "" || at[0] >= 24 {
					t.Errorf("%q stands where %q does", p.Title, places[at])
				}
				places[at] = p.Title
			}
		}
		if p.Type == "row" {
			rows++
			continue
		}
		if len(p.Targets) == 0 {
			t.Errorf("%q shows nothing", p.Title)
		}
		for _, x := range p.Targets {
			expr := filled(x.Expr, "1m")
			if err := have.check(expr); err != nil {
				t.Errorf("%q: %s: %v", p.Title, x.Expr, err)
			}
			if strings.Contains(expr, "$") || x.Datasource.UID != "${datasource}" {
				t.Errorf("%q: %s of %q has a variable that is not known", p.Title, expr, x.Datasource.UID)
			}
			rules = append(rules, rule{fmt.Sprintf("panel:%d:%s", p.ID, x.RefID), expr})
		}
	}
	if rows != 5 {
		t.Errorf("%d rows", rows)
	}
	for _, v := range b.Templating.List {
		if inner, found := strings.CutPrefix(v.Query, "label_values("); found {
			metric, label, _ := strings.Cut(strings.TrimSuffix(inner, ")"), ", ")
			if err := have.check(fmt.Sprintf("sum by (%s) (%s)", label, metric)); err != nil {
				t.Errorf("variable %s: %v", v.Name, err)
			}
		}
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "board", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "board.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}

// Grafana is told of the board and of a Prometheus that is asked as often as it asks.
func TestProvisioning(t *testing.T) {
	var s struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool `yaml:"isDefault"`
			JSONData                     struct {
				TimeInterval string `yaml:"timeInterval"`
			} `yaml:"jsonData"`
		}
	}
	read(t, "grafana/provisioning/datasources/prometheus.yml", &s)
	var c struct {
		Global struct {
			Scrape string `yaml:"scrape_interval"`
		}
	}
	text, err := os.ReadFile("prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	if len(s.Datasources) != 1 || s.APIVersion != 1 || s.Datasources[0].Type != "prometheus" || s.Datasources[0].JSONData.TimeInterval != c.Global.Scrape {
		t.Errorf("%+v: want one Prometheus that asks each %s", s, c.Global.Scrape)
	}
	var p struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type     string
			AllowUIUpdates bool `yaml:"allowUiUpdates"`
			Options        struct{ Path string }
		}
	}
	read(t, "grafana/provisioning/dashboards/sluice.yml", &p)
	if len(p.Providers) != 1 || p.APIVersion != 1 || p.Providers[0].Type != "file" || p.Providers[0].Options.Path == "" {
		t.Errorf("%+v: want one folder", p)
	}
}
