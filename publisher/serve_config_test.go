package publisher

import (
	"log/slog"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/shared/worker"
)

// What cannot work is refused at the start, by the names of the settings.
func TestServeConfig(t *testing.T) {
	f := func(change func(*ServeConfig), want ...string) {
		t.Helper()
		cfg := worker.Default[ServeConfig]()
		cfg.Admin.Addr, cfg.Publisher.Addr = "127.0.0.1:0", "127.0.0.1:0"
		change(&cfg)
		s, err := New(cfg, slog.New(slog.DiscardHandler))
		if err == nil {
			s.ln.Close()
			s.admin.Close()
			s.client.Close()
		}
		switch {
		case len(want) == 0 && err != nil:
			t.Errorf("%v", err)
		case len(want) > 0 && err == nil:
			t.Errorf("accepted, want %q", want)
		}
		for _, w := range want {
			if err != nil && !strings.Contains(err.Error(), w) {
				t.Errorf("%v: want %q in it", err, w)
			}
		}
	}
	keys := func(c *ServeConfig) { _ = c.Publisher.APIKeys.Decode("a-key-that-is-long-enough") }
	for _, addr := range []string{"127.0.0.1:0", "127.8.8.8:0", "localhost:0"} {
		f(func(c *ServeConfig) { c.Publisher.Addr = addr })
	}
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "host.example:0"} {
		f(func(c *ServeConfig) { c.Publisher.Addr = addr }, "PUBLISHER_ADDR="+`"`+addr+`"`, "PUBLISHER_API_KEYS", "loopback")
	}
	f(func(c *ServeConfig) { keys(c); c.Publisher.Addr = ":0" })
	f(func(c *ServeConfig) { c.Publisher.Addr = "nowhere" }, `PUBLISHER_ADDR="nowhere"`, "127.0.0.1:8090")
	f(func(c *ServeConfig) { _ = c.Publisher.APIKeys.Decode("short") }, "PUBLISHER_API_KEYS: key 1 of 1", "want 16")
	f(func(c *ServeConfig) { decode(t, c, "*") }, "PUBLISHER_ORIGINS=*", "PUBLISHER_API_KEYS")
	f(func(c *ServeConfig) { keys(c); decode(t, c, "*") })
	f(func(c *ServeConfig) { c.Publisher.MaxItems = 0 }, "PUBLISHER_MAX_ITEMS=0", "want 1")
	f(func(c *ServeConfig) { c.Publisher.MaxPayload = 0 }, "PUBLISHER_MAX_PAYLOAD=0")
	f(func(c *ServeConfig) { c.Publisher.MaxBody = 1000 }, "PUBLISHER_MAX_BODY=1000")
	f(func(c *ServeConfig) { c.Publisher.MaxBody = 1048396 }, "PUBLISHER_MAX_BODY=1048396", "PUBLISHER_MAX_PAYLOAD=1048397")
	f(func(c *ServeConfig) { c.Publisher.Connections = 0 }, "PUBLISHER_CONNECTIONS=0")
	f(func(c *ServeConfig) { c.Publisher.Rate = -1 }, "PUBLISHER_RATE=-1")
	f(func(c *ServeConfig) { c.Publisher.Rate = math.NaN() }, "PUBLISHER_RATE=NaN")
	f(func(c *ServeConfig) { c.Publisher.Rate = 0 })
	f(func(c *ServeConfig) { c.Publisher.ReadTimeout = 0 }, "PUBLISHER_READ_TIMEOUT=0s")
	f(func(c *ServeConfig) { c.Publisher.DrainDelay = -time.Second }, "PUBLISHER_DRAIN_DELAY=-1s")
	f(func(c *ServeConfig) { c.Redis.URL = "nonsense" }, "REDIS_URL")
	f(func(c *ServeConfig) { c.BroadcastChannel = "" }, `BROADCAST_CHANNEL=""`, "empty")
	f(func(c *ServeConfig) { c.BroadcastChannel = "all:{clientId}" }, "BROADCAST_CHANNEL", "no placeholder")
	f(func(c *ServeConfig) { c.BroadcastChannel = "all:>" }, "BROADCAST_CHANNEL", "without wildcards")
	f(func(c *ServeConfig) { c.ClientChannel = "sse:channel" }, "CLIENT_CHANNEL", "want {clientId}")
	f(func(c *ServeConfig) { c.ClientChannel = "c:{group}" }, "CLIENT_CHANNEL", "unknown placeholder {group}; want {clientId}")
	f(func(c *ServeConfig) { c.GroupChannel = "*:{group}" }, "GROUP_CHANNEL", "without wildcards")
	f(func(c *ServeConfig) { c.GroupChannel = "g:{group" }, "GROUP_CHANNEL", "partner")
	f(func(c *ServeConfig) { c.GroupChannel = strings.Repeat("x", 2000) + "{group}" }, "GROUP_CHANNEL", "too long")

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	f(func(c *ServeConfig) { c.Publisher.Addr = taken.Addr().String() }, "PUBLISHER_ADDR=", "in use")
	f(func(c *ServeConfig) { c.Admin.Addr = taken.Addr().String() }, "ADMIN_ADDR=", "in use")
}

// From the environment, as an operator sets them.
func TestServeCommand(t *testing.T) {
	code, out, errs := run(t.Context(), "", "serve", "-h")
	if code != worker.ExitOK || errs != "" {
		t.Errorf("exit %d, %s", code, errs)
	}
	for _, s := range worker.Settings[ServeConfig]() {
		if !strings.Contains(out, s.Key) || !strings.Contains(out, s.Desc) {
			t.Errorf("-h: no %s", s.Key)
		}
	}
	f := func(want, setting, value string) {
		t.Helper()
		t.Setenv("PUBLISHER_ADDR", "127.0.0.1:0")
		t.Setenv("ADMIN_ADDR", "127.0.0.1:0")
		t.Setenv(setting, value)
		code, _, errs := run(t.Context(), "", "serve")
		if code != worker.ExitSettings || !strings.Contains(errs, want) {
			t.Errorf("%s=%s: exit %d, %s", setting, value, code, errs)
		}
	}
	f("PUBLISHER_API_KEYS", "PUBLISHER_ADDR", ":8090")
	f(`PUBLISHER_ORIGINS="a.com"`, "PUBLISHER_ORIGINS", "a.com")
}
