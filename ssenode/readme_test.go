package ssenode

import (
	"strings"
	"testing"

	"sluice/shared/embedded"
	"sluice/shared/worker"
)

// The README has the settings as they are in the code, and no metric and no
// reason is missing in it.
func TestReadme(t *testing.T) {
	t.Parallel()
	families, err := startNode(t, newUpstream(t), nil).admin.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, f := range families {
		if name, own := strings.CutPrefix(f.GetName(), "sluice_ssenode_"); own {
			words = append(words, name)
		}
	}
	for r := range reasons {
		words = append(words, r.String())
	}
	for d := range drops {
		words = append(words, d.String())
	}
	embedded.CheckReadme(t, "README.md", []string{worker.SettingsTable[Config]()}, words)
}
