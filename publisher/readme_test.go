package publisher

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sluice/shared/worker"
)

// The tables of the README are those of the code.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	f := func(first string, want []string) {
		t.Helper()
		_, table, found := strings.Cut(string(b), "\n"+first+"\n|---")
		if !found {
			t.Errorf("no table %q", first)
			return
		}
		table, _, _ = strings.Cut(table, "\n\n")
		rows := strings.Split(strings.TrimSpace(table), "\n")[1:]
		for i := range max(len(rows), len(want)) {
			var row, wanted string
			if i < len(rows) {
				row = rows[i]
			}
			if i < len(want) {
				wanted = want[i]
			}
			if row != wanted {
				t.Errorf("row %d of %q:\n got %s\nwant %s", i+1, first, row, wanted)
			}
		}
	}
	var settings, scenarios []string
	for _, s := range worker.Settings[Config]() {
		settings = append(settings, fmt.Sprintf("| `%s` | `%s` | %s |", s.Key, s.Default, s.Desc))
	}
	f("| setting | default | meaning |", settings)
	for _, s := range Scenarios() {
		channels := "`" + strings.ReplaceAll(s.Channels, ", ", "`, `") + "`"
		scenarios = append(scenarios, fmt.Sprintf("| `%s` | %s | %s | %s |", s.Name, s.App, channels, s.Events))
	}
	f("| scenario | row of the apps | Redis channels | events |", scenarios)
}
