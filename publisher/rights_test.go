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
	t.Parallel()
	server := embedded.TestRedisProcess(t) // miniredis has no ACL
	admin := embedded.TestRedisClient(t, server)
	nats := embedded.TestNATS(t)
	as := func(name string, rules ...string) settings {
		t.Helper()
		args := []any{"ACL", "SETUSER", name, "reset", "on", ">s3cret"}
		for _, rule := range rules {
			args = append(args, rule)
		}
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
		return at("redis://"+name+":s3cret@"+server.Addr(), nats.URL())
	}
	full := as("full", strings.Fields(Rights)...)
	if code, _, errs := full.run(context.Background(), "", "send", "a", "x", "-n", "1000"); code != worker.ExitOK || strings.Contains(errs, "NOPERM") {
		t.Errorf("send: %d %s", code, errs)
	}
	if code, _, errs := full.run(context.Background(), "", "simulate", "all", "-rate", "50", "-for", "300ms"); code != worker.ExitOK || strings.Contains(errs, "NOPERM") {
		t.Errorf("simulate: %d %s", code, errs)
	}
	one := as("one", "+publish", "+ping", "&one")
	if code, _, errs := one.run(context.Background(), "", "send", "one", "x"); code != worker.ExitOK {
		t.Errorf("send to the one channel: %d %s", code, errs)
	}
	f := func(user settings, args ...string) {
		t.Helper()
		code, _, errs := user.run(context.Background(), "", args...)
		if code != worker.ExitFailed || !strings.Contains(errs, "NOPERM") || !strings.Contains(errs, Rights) || strings.Contains(errs, "s3cret") {
			t.Errorf("%q: %d %s", args, code, errs)
		}
	}
	f(one, "send", "another", "x")
	mute := as("mute", "+ping", "&*")
	f(mute, "send", "a", "x")
	if code, _, errs := mute.run(context.Background(), "", "tap", "a", "-for", "100ms"); code != worker.ExitFailed || !strings.Contains(errs, "+subscribe") || strings.Contains(errs, "s3cret") {
		t.Errorf("tap without the right: %d %s", code, errs)
	}
	ear := as("ear", "+subscribe", "+ping", "&a")
	if code, out, errs := ear.run(context.Background(), "", "tap", "a", "-for", "100ms"); code != worker.ExitOK || !strings.Contains(out, "no node") || !strings.Contains(out, "nothing came") {
		t.Errorf("tap: %d %s %s", code, out, errs)
	}
	f(as("deaf", "+publish", "&*"), "simulate", "race", "-for", "300ms") // it asks first whether Redis is there
}
