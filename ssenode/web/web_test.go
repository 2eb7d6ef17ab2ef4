package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
)

// What a page loads is small, and is what stands here.
func TestFiles(t *testing.T) {
	all, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for name, limit := range map[string]int{"/sluice.js": 6 << 10, "/sluice-tabs.js": 1 << 10, "/sluice-react.js": 1 << 10, "/sluice.d.ts": 3 << 10, "/sluice-react.d.ts": 1 << 10} {
		f := all[name]
		if f == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		if len(f.Gzip) > limit {
			t.Errorf("%s: %d bytes compressed, at most %d", name, len(f.Gzip), limit)
		}
		r, err := gzip.NewReader(bytes.NewReader(f.Gzip))
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(r); err != nil || !bytes.Equal(text, f.Text) {
			t.Errorf("%s: another text compressed: %v", name, err)
		}
		source, err := files.ReadFile(name[1:])
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(source)) {
			if t2 := strings.TrimSpace(line); t2 != "" && !strings.HasPrefix(t2, "//") && !strings.Contains(string(f.Text), line) {
				t.Errorf("%s: served without %q", name, line)
			}
		}
	}
	if len(all) != 5 {
		t.Errorf("%d files", len(all))
	}
}
