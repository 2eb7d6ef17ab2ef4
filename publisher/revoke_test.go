package publisher

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/embedded"
	"sluice/shared/wire"
	"sluice/shared/worker"
)

// startNATS starts a server.
func startNATS(t *testing.T) (settings, *nats.Conn, jetstream.JetStream) {
	t.Helper()
	server := embedded.TestNATS(t)
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return func() (Config, error) {
		c, err := at(nowhere, server.URL())()
		c.Stream.Name = "EVENTS"
		return c, err
	}, nc, js
}

// The bucket is made by the first revocation; each is a key that ends by itself, and
// goes to who listens at once.
func TestRevoke(t *testing.T) {
	t.Parallel()
	where, nc, js := startNATS(t)
	names := wire.Stream{Name: "EVENTS", Prefix: "sluice"}
	live, err := nc.SubscribeSync(names.RevokedPrefix() + ">")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	f := func(key string, want wire.Revocation, lasts time.Duration, text string, args ...string) {
		t.Helper()
		begun := time.Now()
		code, out, errs := where.run(t.Context(), "", append([]string{"revoke"}, args...)...)
		if code != worker.ExitOK || errs != "" || !strings.Contains(out, text) {
			t.Fatalf("%q: exit %d, stdout %q, stderr %q", args, code, out, errs)
		}
		m, err := live.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		r, err := wire.ParseRevocation(key, m.Data)
		if err != nil || m.Subject != names.RevokedPrefix()+key || r.Subject != want.Subject || r.TokenID != want.TokenID ||
			r.At.Before(begun.Add(-time.Second)) || r.Until.Sub(r.At) != lasts {
			t.Errorf("%q: got %s %s, %v", args, m.Subject, m.Data, err)
		}
		kv, err := js.KeyValue(t.Context(), names.Revoked())
		if err != nil {
			t.Fatal(err)
		}
		entry, err := kv.Get(t.Context(), key)
		if err != nil || string(entry.Value()) != string(m.Data) {
			t.Errorf("%q: in the bucket: %v, %v", args, entry, err)
		}
	}
	f(wire.SubjectKey("anna"), wire.Revocation{Subject: "anna"}, time.Hour, `the tokens of "anna" that were issued up to 20`, "-sub", "anna", "-for", "1h")
	f(wire.TokenKey("j1"), wire.Revocation{TokenID: "j1"}, 90*time.Minute, `the token with the id "j1" until 20`, "-for=90m", "-jti=j1")
	f(wire.SubjectKey("a b.*>|é"), wire.Revocation{Subject: "a b.*>|é"}, wire.MaxRevoked, "a b.*>|é", "-sub", "a b.*>|é", "-for", "8784h")
	f(wire.SubjectKey("anna"), wire.Revocation{Subject: "anna"}, time.Second, "anna", "-sub", "anna", "-for", "1s")
	kv, err := js.KeyValue(t.Context(), names.Revoked())
	if err != nil {
		t.Fatal(err)
	}
	embedded.Eventually(t, "the one that is over is gone", patience, func() bool {
		_, err := kv.Get(t.Context(), wire.SubjectKey("anna"))
		return err != nil
	})
	if _, err := kv.Get(t.Context(), wire.TokenKey("j1")); err != nil {
		t.Errorf("another is gone, too: %v", err)
	}
	s, err := js.Stream(t.Context(), names.RevokedStream())
	if err != nil {
		t.Fatal(err)
	}
	if c := s.CachedInfo().Config; c.Storage != jetstream.FileStorage || c.MaxBytes != wire.RevokedBytes || c.MaxAge != wire.MaxRevoked || !c.AllowDirect {
		b, _ := json.Marshal(c)
		t.Errorf("the bucket is %s", b)
	}
}

func TestRevokeWrongArguments(t *testing.T) {
	t.Setenv("NATS_URL", "nats://127.0.0.1:1") // never reached
	f := func(want string, args ...string) {
		t.Helper()
		code, out, errs := run(t.Context(), "", append([]string{"revoke"}, args...)...)
		if code != worker.ExitSettings || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%q: exit %d, stdout %q, stderr %q, want %q in it", args, code, out, errs, want)
		}
	}
	f("sub or jti")
	f("sub or jti", "-for", "1h")
	f("sub or jti", "-sub", "", "-for", "1h")
	f("sub or jti", "-sub", "a", "-jti", "b", "-for", "1h")
	f("for 0s: want how long", "-sub", "a")
	f("for 10ms", "-sub", "a", "-for", "10ms")
	f("for -1h0m0s", "-sub", "a", "-for", "-1h")
	f("1s to 8784h", "-sub", "a", "-for", "8785h")
	f(`invalid value "soon"`, "-sub", "a", "-for", "soon")
	f("4097 bytes of sub or jti, want at most 4096", "-sub", strings.Repeat("a", 4097), "-for", "1h")
	f(`["anna"]`, "anna", "-sub", "a", "-for", "1h")
	f("not defined: -x", "-x")
	t.Setenv("STREAM_NAME", "a.b")
	f("STREAM_NAME", "-sub", "a", "-for", "1h")
	t.Setenv("STREAM_NAME", "a%b")
	f(`STREAM_NAME="a%b": a bucket`, "-sub", "a", "-for", "1h")
	t.Setenv("NATS_URL", "http://user:secret@host")
	f("NATS_URL", "-sub", "a", "-for", "1h")
}

func TestRevokeNATSAway(t *testing.T) {
	t.Parallel()
	f := func(url, want string) {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			code, out, errs := at(nowhere, url).run(ctx, "", "revoke", "-sub", "anna", "-for", "1h")
			if code != worker.ExitFailed || out != "" || !strings.Contains(errs, want) || strings.Contains(errs, "secret") || ctx.Err() != nil {
				t.Errorf("exit %d, stdout %q, stderr %q", code, out, errs)
			}
		})
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // never says a word
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	f("nats://user:secret@"+silent.Addr().String(), "NATS_URL=nats://***@"+silent.Addr().String())
	f("nats://user:secret@"+unused, "connection refused")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code, _, errs := at(nowhere, "nats://"+unused).run(ctx, "", "revoke", "-sub", "anna", "-for", "1h"); code != worker.ExitFailed || !strings.Contains(errs, "interrupted") {
		t.Errorf("interrupted: exit %d, stderr %q", code, errs)
	}
}

// It needs no more rights at NATS than deploy/nats/nats.conf gives a publisher.
func TestRevokeRights(t *testing.T) {
	g := embedded.TestGuardedNATS(t, "../deploy/nats/nats.conf", nil)
	t.Setenv("NATS_URL", g.As("publisher"))
	for _, sub := range []string{"anna", "eve"} { // the first makes the bucket
		if code, out, errs := run(t.Context(), "", "revoke", "-sub", sub, "-for", "1h"); code != worker.ExitOK {
			t.Errorf("exit %d, %s%s", code, out, errs)
		}
	}
	if refused := g.Refused(); len(refused) > 0 {
		t.Errorf("refused: %q", refused)
	}
}
