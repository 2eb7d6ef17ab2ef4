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
	scenarios := "| scenario | row of the apps | Redis channels | events |\n|---|---|---|---|\n"
	for _, s := range Scenarios() {
		channels := "`" + strings.ReplaceAll(s.Channels, ", ", "`, `") + "`"
		scenarios += fmt.Sprintf("| `%s` | %s | %s | %s |\n", s.Name, s.App, channels, s.Events)
	}
	for _, table := range []string{worker.SettingsTable[Config](), scenarios} {
		if !strings.Contains(string(b), "\n\n"+table+"\n") {
			t.Errorf("README.md: want this table:\n%s", table)
		}
	}
}
