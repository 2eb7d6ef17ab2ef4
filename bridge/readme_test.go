package bridge

import (
	"os"
	"strings"
	"testing"

	"sluice/shared/embedded"
	"sluice/shared/worker"
)

// The README has the settings as they are in the code, and no metric and no
// reason is missing in it.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if table := worker.SettingsTable[Config](); !strings.Contains(string(b), "\n\n"+table+"\n") {
		t.Errorf("README.md: want this table:\n%s", table)
	}
	bridge, _ := newRig(t, embedded.NATSOptions{}).start(nil)
	families, err := bridge.admin.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		if name, own := strings.CutPrefix(f.GetName(), "sluice_bridge_"); own {
			names = append(names, name)
		}
	}
	for d := range drops {
		names = append(names, d.String())
	}
	for _, name := range names {
		if !strings.Contains(string(b), "`"+name+"`") {
			t.Errorf("README.md: %s is missing", name)
		}
	}
}
