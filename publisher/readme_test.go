package publisher

import (
	"fmt"
	"strings"
	"testing"

	"sluice/shared/embedded"
	"sluice/shared/worker"
)

// The tables of the README are those of the code.
func TestReadme(t *testing.T) {
	scenarios := "| scenario | row of the apps | Redis channels | events |\n|---|---|---|---|\n"
	for _, s := range Scenarios() {
		channels := "`" + strings.ReplaceAll(s.Channels, ", ", "`, `") + "`"
		scenarios += fmt.Sprintf("| `%s` | %s | %s | %s |\n", s.Name, s.App, channels, s.Events)
	}
	embedded.CheckReadme(t, "README.md", []string{worker.SettingsTable[Config](), scenarios}, nil)
}
