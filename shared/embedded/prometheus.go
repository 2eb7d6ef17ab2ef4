package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestPrometheus starts the program prometheus for the test, with a configuration file
// of this text, and returns once it answers, 10 s at most. Without the program the test
// is skipped, like NeedProgram.
func TestPrometheus(tb testing.TB, config string) *Process {
	tb.Helper()
	path := NeedProgram(tb, "prometheus")
	dir := tb.TempDir()
	file, data := filepath.Join(dir, "prometheus.yml"), filepath.Join(dir, "data")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	p := &Process{name: "prometheus", path: path, scheme: "http"}
	p.args = func(port int) []string {
		return []string{"--config.file=" + file, "--storage.tsdb.path=" + data, "--log.level=warn",
			fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port)}
	}
	p.ready = func(ctx context.Context, addr string, _ int) error { return prometheusReady(ctx, addr, data) }
	p, err := p.launch(tb.Context())
	return ended(tb, p, err)
}

// prometheusReady asks for the folder of the data, which no other server has.
func prometheusReady(ctx context.Context, addr, data string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var flags struct{ Data map[string]string }
	for _, path := range []string{"/api/v1/status/flags", "/-/ready"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
		if err != nil {
			return err
		}
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", path, resp.Status)
		}
		if flags.Data == nil {
			if err := json.NewDecoder(resp.Body).Decode(&flags); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	if got := flags.Data["storage.tsdb.path"]; got != data {
		return fmt.Errorf("another server has the port: its data are in %q", got)
	}
	return nil
}
