package publisher

import (
	"context"
	"strings"
	"testing"

	"sluice/shared/embedded"
	"sluice/shared/worker"
)

// The rights that are documented suffice to send and to simulate; without them the
// error says what is needed, and no password.
func TestRights(t *testing.T) {
	server := embedded.TestRedisProcess(t) // miniredis has no ACL
	admin := embedded.TestRedisClient(t, server)
	as := func(name string, rules ...string) {
		t.Helper()
		args := []any{"ACL", "SETUSER", name, "reset", "on", ">s3cret"}
		for _, rule := range rules {
			args = append(args, rule)
		}
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
		t.Setenv("REDIS_URL", "redis://"+name+":s3cret@"+server.Addr())
	}
	as("full", strings.Fields(Rights)...)
	if code, _, errs := run(context.Background(), "", "send", "a", "x", "-n", "1000"); code != worker.ExitOK || strings.Contains(errs, "NOPERM") {
		t.Errorf("send: %d %s", code, errs)
	}
	if code, _, errs := run(context.Background(), "", "simulate", "all", "-rate", "50", "-for", "300ms"); code != worker.ExitOK || strings.Contains(errs, "NOPERM") {
		t.Errorf("simulate: %d %s", code, errs)
	}
	as("one", "+publish", "+ping", "&one")
	if code, _, errs := run(context.Background(), "", "send", "one", "x"); code != worker.ExitOK {
		t.Errorf("send to the one channel: %d %s", code, errs)
	}
	f := func(args ...string) {
		t.Helper()
		code, _, errs := run(context.Background(), "", args...)
		if code != worker.ExitFailed || !strings.Contains(errs, "NOPERM") || !strings.Contains(errs, Rights) || strings.Contains(errs, "s3cret") {
			t.Errorf("%q: %d %s", args, code, errs)
		}
	}
	f("send", "another", "x")
	as("mute", "+ping", "&*")
	f("send", "a", "x")
	t.Setenv("NATS_URL", embedded.TestNATS(t).URL())
	if code, _, errs := run(context.Background(), "", "tap", "a", "-for", "100ms"); code != worker.ExitFailed || !strings.Contains(errs, "+subscribe") || strings.Contains(errs, "s3cret") {
		t.Errorf("tap without the right: %d %s", code, errs)
	}
	as("ear", "+subscribe", "+ping", "&a")
	if code, out, errs := run(context.Background(), "", "tap", "a", "-for", "100ms"); code != worker.ExitOK || !strings.Contains(out, "no node") || !strings.Contains(out, "nothing came") {
		t.Errorf("tap: %d %s %s", code, out, errs)
	}
	as("deaf", "+publish", "&*") // simulate asks first whether Redis is there
	f("simulate", "race", "-for", "300ms")
}
