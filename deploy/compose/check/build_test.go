package check

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"sluice/deploy/program"
	"sluice/shared/embedded"
)

// stamp is what the images are built with as their version.
const stamp = "9.8.7-check"

// wait bounds every wait of these tests; only a hang reaches it.
const wait = time.Minute

// built does what the stage "build" of the Dockerfile does, in a directory that has only
// what its COPY lines bring there, and returns where the programs are. Once for all tests.
var built = sync.OnceValues(func() (string, error) {
	dir := buildDir
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	i, err := readImage(filepath.Join(repository, dockerFile))
	if err != nil {
		return "", err
	}
	files, err := sent(repository)
	if err != nil {
		return "", err
	}
	src := dir // of the container
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "GOFLAGS=") })
	arguments := map[string]string{"VERSION": stamp, "TARGETOS": "linux", "TARGETARCH": goruntime.GOARCH}
	for _, c := range i.all("build") {
		switch c := c.(type) {
		case *instructions.ArgCommand:
			for _, arg := range c.Args {
				value, found := arguments[arg.Key]
				if !found && arg.Value != nil {
					value = *arg.Value
				}
				env = append(env, arg.Key+"="+value)
			}
		case *instructions.WorkdirCommand:
			src = filepath.Join(dir, c.Path)
		case *instructions.CopyCommand:
			for _, from := range c.SourcePaths {
				if err := copied(files, from, src, c.DestPath); err != nil {
					return "", err
				}
			}
		case *instructions.RunCommand:
			line := strings.ReplaceAll(strings.Join(c.CmdLine, " "), " /out/", " "+dir+"/out/")
			cmd := exec.CommandContext(ctx, "sh", "-c", line)
			cmd.Dir, cmd.Env = src, env
			// With the shell end those that it has started.
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
			if out, err := cmd.CombinedOutput(); err != nil {
				return "", fmt.Errorf("%s: %w: %s", line, err, out)
			}
		default:
			return "", fmt.Errorf("what is %s?", c.Name())
		}
	}
	return filepath.Join(dir, "out"), nil
})

// copied puts a file, or what is in a directory, where COPY does.
func copied(files []string, from, workdir, to string) error {
	for _, name := range files {
		rest, below := strings.CutPrefix(name, from+"/")
		if !below && name != from {
			continue
		}
		file := filepath.Join(workdir, to, rest)
		if !below {
			file = filepath.Join(workdir, to, filepath.Base(name))
		}
		text, err := os.ReadFile(filepath.Join(repository, name))
		if err == nil {
			err = os.MkdirAll(filepath.Dir(file), 0o755)
		}
		if err == nil {
			err = os.WriteFile(file, text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func binaries(t *testing.T) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// buildDir outlives single tests.
var buildDir string

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "sluice-image-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(buildDir)
	os.Exit(code)
}

// What the Dockerfile builds needs no other file, and is what the commands are for.
func TestStatic(t *testing.T) {
	dir := binaries(t)
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range list {
		names = append(names, f.Name())
		b, err := elf.Open(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		libraries, _ := b.ImportedLibraries()
		if len(libraries) > 0 || slices.ContainsFunc(b.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("%s is not static: it wants %q", f.Name(), libraries)
		}
	}
	if want := slices.Sorted(maps.Keys(program.All)); !slices.Equal(names, want) {
		t.Errorf("built are %q, want %q", names, want)
	}
}

// Each image as a container would be: alone in its file system, as its user, with its
// command. It answers its HEALTHCHECK, and ends when it is told to. That needs root.
func TestImages(t *testing.T) {
	i, err := readImage(filepath.Join(repository, dockerFile))
	if err != nil {
		t.Fatal(err)
	}
	for name := range program.All {
		t.Run(name, func(t *testing.T) {
			r := i.run(name)
			root := t.TempDir()
			for to, from := range r.files {
				file := filepath.Join(root, to)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				in, mode := filepath.Join(binaries(t), filepath.Base(from)), os.FileMode(0o755)
				if !strings.HasPrefix(from, "build:/out/") {
					in, mode = strings.TrimPrefix(from, "build:"), 0o644 // the authorities: this machine's
				}
				text, err := os.ReadFile(in)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, text, mode); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(root, 0o755); err != nil {
				t.Fatal(err)
			}
			env := []string{"ADMIN_ADDR=127.0.0.1:" + strconv.Itoa(freePort(t)), "NATS_URL=nats://127.0.0.1:1", "REDIS_URL=redis://127.0.0.1:1"}
			switch name {
			case "ssenode":
				env = append(env, "SSENODE_ADDR=127.0.0.1:0", "SSENODE_DRAIN_DELAY=0s", "SSENODE_DRAIN_TIME=0s")
			case "publisher":
				env = append(env, "PUBLISHER_ADDR=127.0.0.1:0", "PUBLISHER_DRAIN_DELAY=0s")
			}
			inside := func(args ...string) *exec.Cmd {
				cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
				cmd.Env, cmd.Dir = env, "/"
				if os.Getuid() != 0 {
					cmd.Path = filepath.Join(root, args[0])
					return cmd
				}
				user, group, _ := strings.Cut(r.user, ":")
				cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: number(t, user), Gid: number(t, group)}}
				return cmd
			}
			out, err := inside(r.entrypoint[0], "-version").CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), name+" "+stamp+" ") {
				t.Errorf("-version: %v, %q", err, out)
			}
			check := r.health[1:]
			if out, err := inside(check...).CombinedOutput(); err == nil {
				t.Errorf("HEALTHCHECK says %q of what does not run", out)
			}
			var said bytes.Buffer
			cmd := inside(slices.Concat(r.entrypoint, r.command)...)
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			embedded.Eventually(t, "HEALTHCHECK succeeds", wait, func() bool { return inside(check...).Run() == nil })
			if out, err := inside(check[0], "ready").CombinedOutput(); err == nil {
				t.Errorf("it is ready without NATS: %s", out)
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("it ends with %v: %s", err, &said)
				}
			case <-time.After(wait):
				_ = cmd.Process.Kill()
				<-ended
				t.Errorf("it does not end: %s", &said)
			}
		})
	}
}

func number(t *testing.T, text string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}
