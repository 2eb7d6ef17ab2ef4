package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"sluice/bridge"
	"sluice/shared/worker"
	"sluice/ssenode"
)

// Metrics and profiles are on loopback unless ADMIN_ADDR says otherwise.
func TestAdminIsOnLoopback(t *testing.T) {
	for name, addr := range map[string]string{
		"bridge": worker.Default[bridge.Config]().Admin.Addr, "ssenode": worker.Default[ssenode.Config]().Admin.Addr,
	} {
		host, _, err := net.SplitHostPort(addr)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			t.Errorf("%s: ADMIN_ADDR is %q by default, %v", name, addr, err)
		}
	}
}

// A program that is set up wrongly does not start; its exit code says that it
// is the settings, and its last words say which, with which value, and where in
// it the mistake is.
func TestBadSettingsStopThePrograms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		program, setting string
		words            []string
	}{
		{"bridge", "ROUTES=game:> history=of", []string{"ROUTES", "history=of", "position 16"}},
		{"ssenode", "ROUTES=a priority=urgent; b", []string{"ROUTES", "priority", "urgent", "position 12"}},
		{"bridge", "REDIS_URL=localhost:6379", []string{"REDIS_URL", "localhost:6379", "redis://"}},
		{"bridge", "BRIDGE_PULSE=9m", []string{"BRIDGE_PULSE", "9m"}},
		{"bridge", "BRIDGE_STORAGE=tape", []string{"BRIDGE_STORAGE", "tape", "file"}},
		{"ssenode", "NATS_URL=http://x", []string{"NATS_URL", "http://x"}},
		{"ssenode", "SSENODE_ADDR=nowhere", []string{"SSENODE_ADDR", "nowhere"}},
		{"ssenode", "SSENODE_ENGINE=steam", []string{"SSENODE_ENGINE", "steam", "epoll"}},
		{"ssenode", "SSENODE_RETRY=2", []string{"SSENODE_RETRY", "2"}},
		{"ssenode", "SSENODE_MAX_AGE=999ms", []string{"SSENODE_MAX_AGE=999ms", "want 0 (none) or 1s to 8760h0m0s"}},
		{"ssenode", "SSENODE_MAX_AGE=-1s", []string{"SSENODE_MAX_AGE=-1s", "want 0 (none) or 1s to"}},
		{"ssenode", "SSENODE_MAX_AGE=2562047h", []string{"SSENODE_MAX_AGE=2562047h", "want 0 (none) or 1s to"}}, // with a fifth more it is too long to be counted
		{"ssenode", "SSENODE_HEARTBEAT=25h", []string{"SSENODE_HEARTBEAT=25h", "to 24h0m0s"}},
		{"ssenode", "SSENODE_BEHIND_AFTER=1ms", []string{"SSENODE_BEHIND_AFTER=1ms", "want at least"}},
		{"ssenode", "SSENODE_ENDPOINTS=/events=a", []string{"SSENODE_ENDPOINTS", "/events"}},
		{"ssenode", "SSENODE_MAX_CONNECTIONS=0", []string{"SSENODE_MAX_CONNECTIONS=0", "want 1 to"}},
		{"ssenode", "SSENODE_TRUSTED_PROXIES=10.0.0.1,10.0.0.2/8", []string{"SSENODE_TRUSTED_PROXIES", "10.0.0.2/8", "want 10.0.0.0/8"}},
		{"ssenode", "SSENODE_TRUSTED_PROXIES=0.0.0.0/0", []string{"SSENODE_TRUSTED_PROXIES", "0.0.0.0/0", "only your proxies"}},
		{"publisher serve", "PUBLISHER_ADDR=0.0.0.0:0", []string{"PUBLISHER_ADDR", "0.0.0.0:0", "PUBLISHER_API_KEYS"}},
		{"publisher serve", "PUBLISHER_API_KEYS=hunter2", []string{"PUBLISHER_API_KEYS", "key 1 of 1", "16"}},
		{"publisher serve", "CLIENT_CHANNEL=all", []string{"CLIENT_CHANNEL", "all", "{clientId}"}},
		{"ssenode", "LOG_LEVEL=loud", []string{"LOG_LEVEL", "loud"}},
	} {
		t.Run(c.program+" "+c.setting, func(t *testing.T) {
			p := start(t, c.program, c.setting)
			select {
			case <-p.done:
			case <-time.After(wait):
				t.Fatal("it runs")
			}
			if code := p.cmd.ProcessState.ExitCode(); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			for _, word := range c.words {
				if !strings.Contains(p.output(), word) {
					t.Errorf("no %q in %q", word, p.output())
				}
			}
		})
	}
}
