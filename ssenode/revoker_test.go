package ssenode

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/channel"
	"sluice/shared/wire"
	"sluice/ssenode/auth"
)

// bucket makes the bucket as publisher revoke does.
func (u *upstream) bucket() {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	_, err := u.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: u.names.Revoked(), Storage: jetstream.FileStorage, LimitMarkerTTL: time.Second, MaxBytes: 1 << 20,
	})
	if err != nil {
		u.t.Fatal(err)
	}
}

// revoke puts a revocation into the bucket.
func (u *upstream) revoke(r wire.Revocation) {
	u.t.Helper()
	u.put0(u.names.RevokedPrefix()+r.Key(), r.Encode())
}

func (u *upstream) put0(subject string, data []byte) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if _, err := u.js.Publish(ctx, subject, data); err != nil {
		u.t.Fatal(err)
	}
}

// revocation is of a subject, as from now, for an hour.
func revocation(subject string) wire.Revocation {
	now := time.Now()
	return wire.Revocation{Subject: subject, At: now, Until: now.Add(time.Hour)}
}

// refused is what a token is answered on a node.
func refused(t *testing.T, n *Node, token string) bool {
	t.Helper()
	a := ask(t, n, "/poll?channel=x&timeout=0", bearer(token))
	if a.status == 401 && !strings.Contains(a.body, code(auth.Revoked)) {
		t.Fatalf("got %+v", a)
	}
	return a.status == 401
}

// Who is revoked loses streams and polls on all nodes within a moment, and gets
// none any more; others do not notice.
func TestRevoke(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		u, a, b := pair(t, engine)
		u.bucket()
		iat := in(-time.Minute)
		anna, eve, one := hs(t, "iat", iat), hs(t, "sub", "eve", "iat", iat), hs(t, "sub", "bob", "jti", "j1")
		s1 := open(t, a, "/events?channel=x"+query(anna))
		s2 := open(t, b, "/events?channel=x"+query(hs(t, "exp", nil)))
		s3 := open(t, b, "/events?channel=x"+query(one))
		others := open(t, b, "/events?channel=x"+query(eve))
		twin := open(t, b, "/events?channel=x"+query(hs(t, "sub", "bob", "jti", "j2")))
		settle(t, b)
		at := u.publish("x", "before")
		want(t, s2, "", "before")
		polled := make(chan asked, 1)
		go func() {
			defer close(polled)
			polled <- ask(t, b, "/poll?channel=x&timeout=50&lastEventId="+wire.ID{Epoch: "e1", Seq: at}.String(), bearer(anna))
		}()
		until(t, "the poll waits", func() bool { return b.stats.polls.Load() == 1 })
		begun := time.Now()
		u.revoke(revocation("anna"))
		u.revoke(wire.Revocation{TokenID: "j1", At: time.Now(), Until: time.Now().Add(time.Hour)})
		ends(t, s1)
		ends(t, s2)
		ends(t, s3)
		t.Logf("all are closed after %s", time.Since(begun).Round(time.Millisecond))
		if p := <-polled; p.status != 401 || !strings.Contains(p.body, code(auth.Revoked)) {
			t.Errorf("poll: %+v", p)
		}
		until(t, "they are counted", func() bool { return a.stats.closes[revoked].Load() == 1 && b.stats.closes[revoked].Load() == 2 })
		u.publish("x", "after")
		want(t, others, "", "before")
		want(t, others, "", "after")
		want(t, twin, "", "before")
		want(t, twin, "", "after")

		// Coming back: an EventSource ends for good, others are told why.
		for _, n := range []*Node{a, b} {
			for _, token := range []string{anna, one, hs(t), hs(t, "iat", "x"), hs(t, "iat", in(time.Hour))} {
				if got := ask(t, n, "/events?channel=x"+query(token), "Accept: text/event-stream"); got.status != 204 || got.body != "" ||
					got.header.Get("Access-Control-Allow-Origin") != "*" {
					t.Errorf("EventSource: %+v", got)
				}
				if got := ask(t, n, "/mine", bearer(token), "Accept: text/event-stream", "Last-Event-ID: e1-1"); got.status != 204 {
					t.Errorf("EventSource: %+v", got)
				}
				if got := ask(t, n, "/events?channel=x", bearer(token)); got.status != 401 || !strings.Contains(got.body, code(auth.Revoked)) {
					t.Errorf("stream: %+v", got)
				}
				if got := ask(t, n, "/poll?channel=x&timeout=0", bearer(token), "Accept: text/event-stream"); got.status != 401 || !strings.Contains(got.body, code(auth.Revoked)) {
					t.Errorf("poll: %+v", got)
				}
			}
			if got := post(t, n, "/refresh", refreshBody("anna", anna)); got.status != 401 || !strings.Contains(got.body, code(auth.Revoked)) {
				t.Errorf("refresh: %+v", got)
			}
			// Expired is expired, for an EventSource, too.
			if got := ask(t, n, "/events?channel=x"+query(hs(t, "exp", in(-time.Hour))), "Accept: text/event-stream"); got.status != 401 {
				t.Errorf("expired: %+v", got)
			}
		}
	})
}

// A revocation of a subject is of the tokens of before; one that is over, or taken
// back, is none; the last one counts.
func TestRevokeTimes(t *testing.T) {
	t.Parallel()
	u, a, _ := pair(t, "auto")
	u.bucket()
	now := time.Now()
	token := func(sub string, iat time.Time) string { return hs(t, "sub", sub, "iat", iat.Unix()) }
	r := wire.Revocation{Subject: "s", At: now.Add(-time.Minute), Until: now.Add(time.Hour)}
	u.revoke(r)
	until(t, "it is known", func() bool { return a.guard.Revocations.Len() == 1 })
	if !refused(t, a, token("s", r.At)) || refused(t, a, token("s", r.At.Add(2*time.Second))) {
		t.Error("not by when the token was issued")
	}
	s := open(t, a, "/events?channel=x"+query(token("s", r.At.Add(2*time.Second))))
	r.At = now
	u.revoke(r)
	ends(t, s) // the last one counts
	u.put0(u.names.RevokedPrefix()+r.Key(), nil)
	until(t, "it is taken back", func() bool { return !refused(t, a, token("s", now.Add(-time.Hour))) })

	u.revoke(wire.Revocation{Subject: "over", At: now, Until: time.Now().Add(-time.Second)})
	u.revoke(wire.Revocation{Subject: "soon", At: now, Until: now.Add(2 * time.Second)})
	u.revoke(wire.Revocation{Subject: "s", At: now, Until: now.Add(time.Hour)})
	until(t, "it is known", func() bool { return refused(t, a, token("s", now.Add(-time.Hour))) })
	if refused(t, a, token("over", now.Add(-time.Hour))) {
		t.Error("refused after its end")
	}
	until(t, "it is over", func() bool { return !refused(t, a, token("soon", now.Add(-time.Hour))) })
	a.guard.Revocations.Sweep(time.Now())
	if n := a.guard.Revocations.Len(); n != 1 {
		t.Errorf("%d are kept, want 1", n)
	}

	// What is none is counted, and does no harm.
	u.put0(u.names.RevokedPrefix()+"sub.x", []byte("nonsense"))
	until(t, "it is counted", func() bool { return a.stats.ignored[malformedRevocation].Load() > 0 })
}

// A node knows what was revoked before it came, and is not ready before.
func TestRevokedBefore(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.bucket()
	for _, sub := range []string{"anna", "eve", "x|y.*>"} {
		u.revoke(revocation(sub))
	}
	n := guarded(t, u, nil) // ready
	if !refused(t, n, hs(t)) || !refused(t, n, hs(t, "sub", "x|y.*>")) || refused(t, n, hs(t, "sub", "bob")) {
		t.Error("it does not know")
	}
	// It cannot read the bucket, and waits.
	if err := u.server.Server().DisableJetStream(); err != nil {
		t.Fatal(err)
	}
	late := startNodeUnready(t, u, func(c *Config) { c.SSENode.JWT.Secret = auth.NewSecret(testSecret) })
	until(t, "it is connected", late.nc.IsConnected)
	late.epoch.Store(n.epoch.Load())
	if err := late.ready(); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("ready: %v", err)
	}
	// Whoever has a token is sent away meanwhile, and comes back.
	if got := ask(t, late, "/poll?channel=x&timeout=0", bearer(hs(t, "sub", "bob"))); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("a poll: %+v", got)
	}
	if got := ask(t, late, "/events?channel=x", bearer(hs(t, "sub", "bob"))); got.status != 200 || got.header.Get("Content-Length") == "" {
		t.Errorf("a stream: %+v", got)
	}
	if got := post(t, late, "/refresh", refreshBody("bob", hs(t, "sub", "bob"))); got.status != 503 || !strings.Contains(got.body, "revoked") {
		t.Errorf("refresh: %+v", got)
	}
}

// Without NATS what is known counts on. What was revoked meanwhile is known as soon as
// it is back, and so is a bucket that was made only then.
func TestRevokeAway(t *testing.T) {
	t.Parallel()
	u, a, b := pair(t, "auto")
	iat := in(-time.Minute)
	anna, eve := hs(t, "iat", iat), hs(t, "sub", "eve", "iat", iat)
	open(t, b, "/events?channel=x"+query(eve))
	u.bucket()
	u.revoke(revocation("anna"))
	until(t, "it is known", func() bool { return a.guard.Revocations.Len() == 1 && b.guard.Revocations.Len() == 1 })
	u.stop()
	until(t, "NATS is away", func() bool { return !a.nc.IsConnected() && !b.nc.IsConnected() })
	if got := ask(t, a, "/poll?channel=x&timeout=0", bearer(anna)); got.status != 401 {
		t.Errorf("without NATS: %+v", got)
	}
	if err := u.server.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "the test is connected again", u.nc.IsConnected)
	u.createStream()
	u.revoke(revocation("eve"))
	u.pulse("e2")
	for _, n := range []*Node{a, b} {
		until(t, "it is known", func() bool { return n.guard.Revocations.Len() == 2 })
		until(t, "it is refused", func() bool { return refused(t, n, eve) })
		if !refused(t, n, anna) {
			t.Error("what was known is forgotten")
		}
	}
	until(t, "its stream is closed", func() bool { return b.stats.open() == 0 })
}

// What does not come by itself is read from the bucket; one that was made anew, too.
func TestRevokedReread(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := guarded(t, u, nil)
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	other, err := auth.New(&n.cfg.SSENode.Settings, n.log)
	if err != nil {
		t.Fatal(err)
	}
	// It reads into a list of its own; nothing comes to that by itself.
	r := &revoker{nc: n.nc, list: other.Revocations, log: n.log, stats: n.stats, history: n.revoker.history}
	f := func(want uint64, known int) {
		t.Helper()
		if err := r.readNew(ctx); err != nil || r.seq != want || r.list.Len() != known {
			t.Errorf("read up to %d, and %d are known; want %d, %d; %v", r.seq, r.list.Len(), want, known, err)
		}
	}
	f(0, 0) // there is none
	u.bucket()
	f(0, 0)
	u.revoke(revocation("anna"))
	u.revoke(revocation("eve"))
	f(2, 2)
	f(2, 2)
	u.revoke(revocation("anna"))
	f(3, 2)
	if err := u.js.DeleteKeyValue(ctx, u.names.Revoked()); err != nil {
		t.Fatal(err)
	}
	u.bucket()
	u.revoke(revocation("bob"))
	f(1, 3) // though more had been read of the other one
	if err := u.js.DeleteKeyValue(ctx, u.names.Revoked()); err != nil {
		t.Fatal(err)
	}
	f(0, 3) // what is known counts on
}

// What comes by itself while the bucket is being read is not undone by what the bucket
// had before; and what was left out by that is read again.
func TestRevokedWhileReading(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := guarded(t, u, nil)
	u.bucket()
	id := func(issued time.Time) *auth.Identity { return &auth.Identity{Subject: "anna", IssuedAt: issued} }
	now := time.Now()
	older, newer := revocation("anna"), revocation("anna")
	older.At = now.Add(-time.Hour)
	other, err := auth.New(&n.cfg.SSENode.Settings, n.log)
	if err != nil {
		t.Fatal(err)
	}
	r := &revoker{nc: n.nc, list: other.Revocations, log: n.log, stats: n.stats, history: n.revoker.history}
	has := func() bool { return r.list.Has(other.Bearer(id(now.Add(-time.Minute)))) }
	r.reading(true)
	if r.takeLive(newer.Key(), newer.Encode()); !has() {
		t.Fatal("what came by itself is not heeded")
	}
	if r.takeRead(older.Key(), older.Encode()) || !has() {
		t.Error("the older one, read later, has taken its place")
	}
	r.reading(false)
	if !r.takeRead(older.Key(), older.Encode()) || has() {
		t.Error("after the reading, what is read does not count")
	}
}

// HEAD is answered as GET, without the body.
func TestRevokedHead(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := guarded(t, u, nil)
	u.bucket()
	u.revoke(revocation("anna"))
	until(t, "it is known", func() bool { return n.guard.Revocations.Len() == 1 })
	if resp, _ := get(t, http.MethodHead, base(n)+"/events?channel=x"+query(hs(t))); resp.StatusCode != 401 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// A token that is revoked after its request was granted, and before the loop has the
// stream or its newer pass, is not overlooked.
func TestRevokedMeanwhile(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := guarded(t, u, nil)
	exact, err := channel.Exact("x")
	if err != nil {
		t.Fatal(err)
	}
	id, err := n.guard.Judge([]byte(`{"sub":"anna","jti":"j1","iss":"` + testIssuer + `","aud":"sluice"}`))
	if err != nil {
		t.Fatal(err)
	}
	c := newCollector(false)
	s, _, err := n.join(&request{identity: id, clientID: "anna", initial: -1, channels: []string{"x"}, want: []channel.Pattern{exact}}, c)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	revoke := func(jti string) {
		r := wire.Revocation{TokenID: jti, At: now, Until: now.Add(time.Hour)}
		n.guard.Revocations.Add(r.Key(), r)
	}
	revoke("j1")
	s.loop.ask(func() { s.loop.evict() }) // as the tick does, too early
	if !s.loop.adopt(s) {
		t.Fatal("the node has ended")
	}
	select {
	case <-c.done:
	case <-time.After(wait):
		t.Fatal("it is open")
	}
	if !c.revoked {
		t.Error("not as revoked")
	}

	open(t, n, "/events?channel=x&clientId=anna"+query(hs(t)))
	newer, err := n.guard.Judge([]byte(`{"sub":"anna","jti":"j2","iss":"` + testIssuer + `","aud":"sluice"}`))
	if err != nil {
		t.Fatal(err)
	}
	revoke("j2")
	for _, l := range n.loops {
		l.ask(func() {
			l.evict()
			l.refresh("anna", n.newPass(newer, auth.Attributes{}), []channel.Pattern{exact})
		})
	}
	until(t, "it is closed", func() bool { return n.stats.closes[revoked].Load() == 1 })
}

// Nobody loses anything by a prefix that is no name of a service.
func TestServiceName(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.mu.Lock() // the pulses go on
	u.names.Prefix = "été/1%"
	u.mu.Unlock()
	n := startNodeUnready(t, u, func(c *Config) { c.Stream = u.names })
	until(t, "it is there", func() bool { count, _ := n.asker.Nodes(); return count == 1 })
	if name := serviceName("a.b~c_d-e"); name != "a_b_c_d-e-ssenode" {
		t.Errorf("got %s", name)
	}
}
