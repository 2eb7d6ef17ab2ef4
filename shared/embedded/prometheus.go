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
// of this text, as TestProgram does.
func TestPrometheus(tb testing.TB, config string) *Process {
	tb.Helper()
	dir := tb.TempDir()
	file, data := filepath.Join(dir, "prometheus.yml"), filepath.Join(dir, "data")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	p := TestProgram(tb, "prometheus", func(port int) []string {
		return []string{"--config.file=" + file, "--storage.tsdb.path=" + data, "--log.level=warn",
			fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port)}
	}, func(ctx context.Context, addr string) error { return prometheusReady(ctx, addr, data) })
	p.scheme = "http"
	return p
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
