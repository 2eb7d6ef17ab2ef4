package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const natsModule = "github.com/nats-io/nats-server/v2"

// BuildNATSServer returns the path of a nats-server program of the version in
// our go.mod, built from the module cache. It is kept in dir, or if that is
// empty in the user's cache directory, under a name with its version, and built
// only once: that takes a quarter of a minute, five at most. It must be called
// from inside the module.
func BuildNATSServer(dir string) (path string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	gomod, err := goTool(ctx, "", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	if gomod == "" || gomod == os.DevNull {
		return "", errors.New("build nats-server: not inside a Go module")
	}
	root := filepath.Dir(gomod)
	version, err := goTool(ctx, root, "list", "-m", "-f", "{{.Version}}", natsModule)
	if err != nil {
		return "", err
	}
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("build nats-server: %w", err)
		}
		dir = filepath.Join(cache, "sluice")
	}
	// Absolute, because the build runs in another directory than the caller.
	path, err = filepath.Abs(filepath.Join(dir, fmt.Sprintf("nats-server-%s-%s-%s", version, runtime.GOOS, runtime.GOARCH)))
	if err != nil {
		return "", fmt.Errorf("build nats-server: %w", err)
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// Built under another name, so that nobody runs half a program: tests of
	// several packages may be here at the same time.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("build nats-server: %w", err)
	}
	part, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", fmt.Errorf("build nats-server: %w", err)
	}
	defer os.RemoveAll(part)
	built, err := filepath.Abs(filepath.Join(part, "nats-server"))
	if err != nil {
		return "", fmt.Errorf("build nats-server: %w", err)
	}
	if _, err := goTool(ctx, root, "build", "-o", built, natsModule); err != nil {
		return "", err
	}
	if err := os.Rename(built, path); err != nil {
		return "", fmt.Errorf("build nats-server: %w", err)
	}
	return path, nil
}

func goTool(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	// Builds for this machine, even where tests are vetted for another one.
	cmd.Env = append(os.Environ(), "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build nats-server: go %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
