package main

import (
	"testing"

	"sluice/shared/embedded"
	"sluice/shared/worker"
)

// The README has the settings as they are in the code.
func TestReadme(t *testing.T) {
	embedded.CheckReadme(t, "../README.md", []string{worker.SettingsTable[config]()}, nil)
}
