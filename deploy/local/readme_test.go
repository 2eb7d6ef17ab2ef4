package main

import (
	"os"
	"strings"
	"testing"

	"sluice/shared/worker"
)

// The README has the settings as they are in the code.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if table := worker.SettingsTable[config](); !strings.Contains(string(b), "\n\n"+table+"\n") {
		t.Errorf("README.md: want this table:\n%s", table)
	}
}
