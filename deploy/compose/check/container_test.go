package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"sluice/shared/embedded"
)

// container is a service of the compose file, as a process.
type container struct {
	embedded.Child
	log     embedded.Lines
	service types.ServiceConfig
	path    string
	args    []string
	env     []string
	check   []string // its health check
	checks  string   // the environment's PATH of that
}

// newContainer puts the files of a service where its process finds them.
func newContainer(t *testing.T, p *place, c types.ServiceConfig, image *image) *container {
	t.Helper()
	u := &container{service: c, env: p.environment(&c)}
	for _, v := range c.Volumes {
		to := p.path(c.Name, v.Target)
		dir := filepath.Dir(to)
		if v.Type != types.VolumeTypeBind {
			dir = to
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if v.Type != types.VolumeTypeBind {
			continue
		}
		text, err := os.ReadFile(v.Source)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(p.text(c.Name, string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	line := slices.Concat(c.Entrypoint, c.Command)
	if name := target(&c); name != "" {
		r := image.run(name)
		line = slices.Concat(r.entrypoint, r.command)
		u.path = filepath.Join(binaries(t), filepath.Base(line[0]))
	} else if name := filepath.Base(line[0]); name == "nats-server" {
		var err error
		if u.path, err = embedded.BuildNATSServer(""); err != nil {
			t.Fatal(err)
		}
	} else {
		u.path = embedded.NeedProgram(t, name)
	}
	u.args = p.command(c.Name, line[1:])

	// What checks need: wget, nc, sh are BusyBox's, as in images that are made from Alpine.
	bin := p.path(c.Name, "/.bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	tools := map[string]string{}
	for _, tool := range []string{"sh", "wget", "nc", "grep"} {
		tools[tool] = embedded.NeedProgram(t, "busybox")
	}
	tools["redis-cli"] = embedded.NeedProgram(t, "redis-cli")
	for tool, path := range tools {
		if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	u.checks = "PATH=" + bin
	switch test := c.HealthCheck.Test; test[0] {
	case "CMD-SHELL":
		u.check = []string{filepath.Join(bin, "sh"), "-c", p.command(c.Name, test[1:])[0]}
	default:
		u.check = p.command(c.Name, test[1:])
		if target(&c) != "" {
			u.check[0] = filepath.Join(binaries(t), u.check[0])
		} else {
			u.check[0] = filepath.Join(bin, u.check[0])
		}
	}
	t.Cleanup(func() {
		if err := u.kill(); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%.20000s", c.Name, u.log.String())
		}
	})
	return u
}

// start runs the process, which has the service's environment and nothing else.
func (u *container) start() error {
	cmd := exec.Command(u.path, u.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = u.env, &u.log, &u.log
	_, err := u.Start(cmd)
	return err
}

// kill ends it: one with children of its own gets the chance to end these.
func (u *container) kill() error {
	if filepath.Base(u.path) == "haproxy" {
		return u.End(syscall.SIGTERM, 5*time.Second)
	}
	return u.End(os.Kill, 0)
}

// stop is what docker compose stop does, without the SIGKILL at the end.
func (u *container) stop() error {
	cmd, done := u.Running()
	if cmd == nil {
		return errors.New("it is not running")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-done:
	case <-time.After(time.Duration(*u.service.StopGracePeriod)):
		return fmt.Errorf("it is still there after %s", u.service.StopGracePeriod)
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("it ended with %d", code)
	}
	return nil
}

// healthy runs the health check, as Docker does, once.
func (u *container) healthy(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(*u.service.HealthCheck.Timeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, u.check[0], u.check[1:]...)
	cmd.Env = append(slices.Clone(u.env), u.checks)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// await waits until it is healthy.
func (u *container) await(ctx context.Context) error {
	for {
		said, err := u.healthy(ctx)
		if err == nil {
			return nil
		}
		if cmd, _ := u.Running(); cmd == nil {
			return fmt.Errorf("%s has ended", u.service.Name)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not healthy: %w: %s", u.service.Name, err, said)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// files lists what the process has open of a file system, other than what tells of the
// machine.
func (u *container) files(t *testing.T) (files []string) {
	t.Helper()
	cmd, _ := u.Running()
	if cmd == nil {
		t.Fatalf("%s does not run", u.service.Name)
	}
	dir := fmt.Sprintf("/proc/%d/fd", cmd.Process.Pid)
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		info, err := os.Stat(filepath.Join(dir, f.Name()))
		if err != nil || info.Mode()&fs.ModeType != 0 {
			continue // closed by now, or no file
		}
		name, err := os.Readlink(filepath.Join(dir, f.Name()))
		if err == nil && name[0] == '/' && !strings.HasPrefix(name, "/sys/") && !strings.HasPrefix(name, "/proc/") {
			files = append(files, name)
		}
	}
	return files
}
