package embedded

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// FindRedisServer returns the path of a redis-server program, if there is one:
// in PATH, or where packages put it although PATH may not lead there.
func FindRedisServer() (path string, ok bool) {
	for _, name := range []string{"redis-server", "/usr/bin/redis-server", "/usr/local/bin/redis-server", "/opt/homebrew/bin/redis-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, true
		}
	}
	return "", false
}

// StartRedisProcess starts redis-server without persistence on a free loopback
// port, with dir as its working directory, and returns once it answers, 10 s at
// most. ctx bounds only the start. args are added to the command line, for
// instance "--requirepass", "x".
func StartRedisProcess(ctx context.Context, dir string, args ...string) (*Process, error) {
	return startRedis(ctx, func(port int) []string { return append(redisArgs(port, dir), args...) })
}

func redisArgs(port int, dir string) []string {
	return []string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1",
		"--save", "", "--appendonly", "no", "--dir", dir}
}

// startRedis starts redis-server with the arguments for a port.
func startRedis(ctx context.Context, args func(port int) []string) (*Process, error) {
	path, ok := FindRedisServer()
	if !ok {
		return nil, errors.New("start redis-server: no such program")
	}
	p := &Process{name: "redis-server", path: path, scheme: "redis", ready: redisReady, args: args}
	return p.launch(ctx)
}

// withSecondPort gives args another free port for each first one, the same after
// Restart.
func withSecondPort(tb testing.TB, args func(port, second int) []string) func(port int) []string {
	seconds := map[int]int{}
	return func(port int) []string {
		if seconds[port] == 0 {
			second, release, err := holdPort()
			must(tb, err)
			tb.Cleanup(release)
			seconds[port] = second
		}
		return args(port, seconds[port])
	}
}

// NATSProcessOptions are all optional, except Dir.
type NATSProcessOptions struct {
	// Dir holds the JetStream files and the configuration file.
	Dir string
	// MaxPayload is the largest message in bytes. Default 1 MiB. It is no flag
	// of the program, so it makes a configuration file.
	MaxPayload int
	// Config is more text for the configuration file.
	Config string
	// Args are added to the command line.
	Args []string
}

// StartNATSProcess starts the nats-server program at path with JetStream on a
// free loopback port, and returns once it answers, 10 s at most. ctx bounds only
// the start.
func StartNATSProcess(ctx context.Context, path string, o NATSProcessOptions) (*Process, error) {
	// The name is how the server is recognized; no two tests share a directory.
	name := "sluice-" + strings.NewReplacer("/", "-", " ", "-").Replace(strings.Trim(o.Dir, "/"))
	p := &Process{name: "nats-server", path: path, scheme: "nats", label: name}
	p.ready = func(ctx context.Context, addr string, _ int) error { return natsAnswers(ctx, addr, name) }
	args := append([]string{"-n", name, "-js", "-sd", o.Dir, "-a", "127.0.0.1"}, o.Args...)
	config := o.Config
	if o.MaxPayload > 0 {
		config += fmt.Sprintf("\nmax_payload: %d\n", o.MaxPayload)
	}
	if config != "" {
		file := filepath.Join(o.Dir, "nats-server.conf")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return nil, fmt.Errorf("start nats-server: %w", err)
		}
		args = append(args, "--config", file)
	}
	p.args = func(port int) []string { return append(args[:len(args):len(args)], "-p", strconv.Itoa(port)) }
	return p.launch(ctx)
}

// dialReady connects with ctx's deadline on everything that follows, but gives
// up on one try after a second.
func dialReady(ctx context.Context, addr string) (net.Conn, *bufio.Reader, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, bufio.NewReader(c), nil
}

// redisReady reads INFO server, which has the process's id. A server with a
// password answers with an error, which must do as a sign of life.
func redisReady(ctx context.Context, addr string, pid int) error {
	c, r, err := dialReady(ctx, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("INFO server\r\n")); err != nil {
		return err
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "-NOAUTH"), line == fmt.Sprintf("process_id:%d", pid):
			return nil
		case strings.HasPrefix(line, "-"):
			return errors.New(line)
		case strings.HasPrefix(line, "process_id:"):
			return fmt.Errorf("another process has the port: %s", line)
		}
	}
}

// natsAnswers reads the greeting, which has the server's name. It is sent when
// JetStream is ready; the listener opens last.
func natsAnswers(ctx context.Context, addr, name string) error {
	c, r, err := dialReady(ctx, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	line, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	text, ok := strings.CutPrefix(line, "INFO ")
	var info struct {
		Name      string `json:"server_name"`
		JetStream bool   `json:"jetstream"`
	}
	if err := json.Unmarshal([]byte(text), &info); !ok || err != nil {
		return fmt.Errorf("not a greeting: %q", line)
	}
	if info.Name != name || !info.JetStream {
		return fmt.Errorf("another server has the port: %q", line)
	}
	return nil
}
