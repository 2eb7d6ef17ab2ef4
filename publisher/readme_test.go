package publisher

import (
	"fmt"
	"strings"
	"testing"

	"sluice/shared/embedded"
	"sluice/shared/worker"
)

// The tables of the README are those of the code, and no metric and no reason is
// missing in it.
func TestReadme(t *testing.T) {
	scenarios := "| scenario | row of the apps | Redis channels | events |\n|---|---|---|---|\n"
	for _, s := range Scenarios() {
		channels := "`" + strings.ReplaceAll(s.Channels, ", ", "`, `") + "`"
		scenarios += fmt.Sprintf("| `%s` | %s | %s | %s |\n", s.Name, s.App, channels, s.Events)
	}
	families, err := serve(t, embedded.TestRedis(t).URL(), nil).s.admin.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, f := range families {
		if name, own := strings.CutPrefix(f.GetName(), "sluice_publisher_"); own {
			words = append(words, name)
		}
	}
	for w := range whys {
		words = append(words, w.String())
	}
	tables := []string{worker.SettingsTable[Config](), worker.SettingsTable[ServeConfig](), scenarios}
	embedded.CheckReadme(t, "README.md", tables, words)
}
