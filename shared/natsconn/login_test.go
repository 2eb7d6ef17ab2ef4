package natsconn

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"sluice/shared/certs"
	"sluice/shared/embedded"
)

const wait = 15 * time.Second

// serve starts a server that the test changes.
func serve(t *testing.T, change func(*server.Options)) *embedded.NATS {
	t.Helper()
	return embedded.TestNATSWith(t, embedded.NATSOptions{Modify: change})
}

func open(t *testing.T, s Settings) (*nats.Conn, *embedded.Lines) {
	t.Helper()
	log := &embedded.Lines{}
	nc, err := Open(s, "test-1", log.Logger(slog.LevelDebug), Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, log
}

// works opens a connection with the settings and sends a message to itself.
func works(t *testing.T, s Settings, secrets ...string) *nats.Conn {
	t.Helper()
	nc, log := open(t, s)
	embedded.Eventually(t, "connected", wait, nc.IsConnected)
	sub, err := nc.SubscribeSync("x")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("x", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.NextMsg(wait); err != nil {
		t.Error(err)
	}
	embedded.Eventually(t, "the log tells", wait, func() bool { return strings.Contains(log.String(), "NATS connected") })
	for _, secret := range secrets {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log tells a secret: %s", log.String())
		}
	}
	return nc
}

// fails opens a connection that is refused, and wants the log to say why, once.
func fails(t *testing.T, s Settings, why string, secrets ...string) (*nats.Conn, *embedded.Lines) {
	t.Helper()
	nc, log := open(t, s)
	embedded.Eventually(t, "the log says why: "+why, wait, func() bool { return strings.Contains(log.String(), why) })
	if n := strings.Count(log.String(), why); n != 1 {
		t.Errorf("logged %d times: %s", n, log.String())
	}
	for _, secret := range secrets {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log tells a secret: %s", log.String())
		}
	}
	return nc, log
}

func at(s *embedded.NATS, login string) string { return "nats://" + login + s.Addr() }

func TestUserAndToken(t *testing.T) {
	users := serve(t, func(o *server.Options) { o.Username, o.Password = "anna", "s3cret/1" })
	works(t, Settings{URL: at(users, "anna:s3cret%2F1@")}, "s3cret", "anna")
	fails(t, Settings{URL: at(users, "anna:wr0ng@")}, "refuses the login", "wr0ng")
	fails(t, Settings{URL: users.URL()}, "refuses the login")
	token := serve(t, func(o *server.Options) { o.Authorization = "t0ken" })
	works(t, Settings{URL: at(token, "t0ken@")}, "t0ken")
	fails(t, Settings{URL: at(token, "n0ne@")}, "refuses the login", "n0ne")
}

// gate lets clients in or does not, and counts those that it has refused.
type gate struct {
	shut    atomic.Bool
	refused atomic.Int64
}

func (g *gate) Check(server.ClientAuthentication) bool {
	if g.shut.Load() {
		g.refused.Add(1)
		return false
	}
	return true
}

// A password that is changed at the server first, and here later by who puts the old
// one back: the connection is not given up, however often it is refused.
func TestLoginIsTriedOn(t *testing.T) {
	g := &gate{}
	s := serve(t, func(o *server.Options) { o.CustomClientAuthentication = g })
	g.shut.Store(true)
	nc, log := open(t, Settings{URL: at(s, "anna:old@")})
	for range 2 {
		from := g.refused.Load()
		embedded.Eventually(t, "several refusals", wait, func() bool { return g.refused.Load() >= from+3 })
		g.shut.Store(false)
		embedded.Eventually(t, "connected", wait, nc.IsConnected)
		g.shut.Store(true)
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	embedded.Eventually(t, "told once each time", wait, func() bool { return strings.Count(log.String(), "refuses the login") == 3 })
}

// seedFile writes a user's seed and returns its public key, too.
func seedFile(t *testing.T, user nkeys.KeyPair) (file, public, seed string) {
	t.Helper()
	text, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "user.nk")
	if err := os.WriteFile(file, append([]byte("# a user\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	if public, err = user.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return file, public, string(text)
}

func newUser(t *testing.T) nkeys.KeyPair {
	t.Helper()
	k, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestNKey(t *testing.T) {
	file, public, seed := seedFile(t, newUser(t))
	other, _, _ := seedFile(t, newUser(t))
	s := serve(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} })
	works(t, Settings{URL: s.URL(), NKey: file}, seed)
	fails(t, Settings{URL: s.URL(), NKey: other}, "refuses the login")
}

func TestCreds(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	operator, err := nkeys.CreateOperator()
	must(err)
	account, err := nkeys.CreateAccount()
	must(err)
	operatorID, err := operator.PublicKey()
	must(err)
	accountID, err := account.PublicKey()
	must(err)
	oc := jwt.NewOperatorClaims(operatorID)
	text, err := oc.Encode(operator)
	must(err)
	trusted, err := jwt.DecodeOperatorClaims(text)
	must(err)
	accountJWT, err := jwt.NewAccountClaims(accountID).Encode(operator)
	must(err)
	creds := func(signer nkeys.KeyPair) (file, seed string) {
		user := newUser(t)
		public, err := user.PublicKey()
		must(err)
		uc := jwt.NewUserClaims(public)
		uc.IssuerAccount = ""
		token, err := uc.Encode(signer)
		must(err)
		text, err := user.Seed()
		must(err)
		file = filepath.Join(t.TempDir(), "user.creds")
		content, err := jwt.FormatUserConfig(token, text)
		must(err)
		must(os.WriteFile(file, content, 0o600))
		return file, string(text)
	}
	s := serve(t, func(o *server.Options) {
		o.JetStream = false // it would want a system account
		o.TrustedOperators = []*jwt.OperatorClaims{trusted}
		resolver := &server.MemAccResolver{}
		must(resolver.Store(accountID, accountJWT))
		o.AccountResolver = resolver
	})
	file, seed := creds(account)
	works(t, Settings{URL: s.URL(), Creds: file}, seed)
	strange, err := nkeys.CreateAccount()
	must(err)
	file, seed = creds(strange)
	fails(t, Settings{URL: s.URL(), Creds: file}, "refuses the login", seed)
}

func TestLoginSettings(t *testing.T) {
	file, _, seed := seedFile(t, newUser(t))
	noJWT := file // a seed alone
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.e30.c2ln"
	f := func(s Settings, words ...string) {
		t.Helper()
		if s.URL == "" {
			s.URL = "nats://127.0.0.1:1"
		}
		err := s.Validate()
		if _, opened := Open(s, "test", slog.New(slog.DiscardHandler), Hooks{}); err == nil || fmt.Sprint(opened) != err.Error() {
			t.Errorf("%+v: %v at opening, want %v", s, opened, err)
			return
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q: want %q in it", err, word)
			}
		}
		for _, secret := range []string{seed, token, "s3cret"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q tells a secret", err)
			}
		}
	}
	f(Settings{NKey: "/nowhere"}, `NATS_NKEY="/nowhere"`, "no such file")
	f(Settings{NKey: empty}, "NATS_NKEY=", "begins with SU")
	f(Settings{NKey: seed}, "NATS_NKEY=", "[redacted]", "name of a file")
	f(Settings{Creds: "/nowhere"}, `NATS_CREDS="/nowhere"`, "no such file")
	f(Settings{Creds: noJWT}, "NATS_CREDS=", "no JWT")
	f(Settings{Creds: token}, "NATS_CREDS=", "[redacted]", "name of a file")
	f(Settings{Creds: file, NKey: file}, "NATS_CREDS and NATS_NKEY")
	f(Settings{URL: "nats://anna:s3cret@h:1", NKey: file}, "NATS_URL and NATS_NKEY")
	f(Settings{Client: certs.Client{CA: empty}}, "NATS_CA=")
	f(Settings{Client: certs.Client{Cert: file}}, "NATS_CERT=", "NATS_KEY=")
	f(Settings{URL: "nats://anna:s3cret"}, "NATS_URL=")
	f(Settings{URL: "nats://anna:a,s3cret@h:1"}, "NATS_URL=")
	f(Settings{URL: "nats://anna:s3cret/x@h:1"}, "NATS_URL=")
	f(Settings{URL: "s3cret@h:1"}, "NATS_URL=")
}

// A right that is missing is told once, whatever the traffic.
func TestMissingRight(t *testing.T) {
	s := serve(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "a", Password: "b", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{"ok"}}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.test.>"}},
		}}}
	})
	var errs atomic.Int64
	log := &embedded.Lines{}
	nc, err := Open(Settings{URL: at(s, "a:b@")}, "test-1", log.Logger(slog.LevelDebug), Hooks{Error: func(*nats.Subscription, error) { errs.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	embedded.Eventually(t, "connected", wait, nc.IsConnected)
	for range 10 {
		if err := nc.Publish("forbidden.subject", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := nc.Subscribe("deaf", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("another.one", nil); err != nil {
		t.Fatal(err)
	}
	embedded.Eventually(t, "the log tells", wait, func() bool {
		return strings.Contains(log.String(), "another.one") && strings.Contains(log.String(), "deaf")
	})
	if n := strings.Count(log.String(), "forbidden.subject"); n != 1 || !strings.Contains(log.String(), "deploy/nats") {
		t.Errorf("told %d times: %s", n, log.String())
	}
	// Its own inbox is allowed: a request finds nobody, and learns that.
	if _, err := nc.Request("ok", nil, wait); err == nil || !strings.Contains(err.Error(), "no responders") {
		t.Errorf("a request: %v", err)
	}
	before := errs.Load()
	for i := range 2 * maxTold {
		if err := nc.Publish(fmt.Sprint("flood.", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	embedded.Eventually(t, "all are refused", wait, func() bool { return errs.Load() == before+2*maxTold })
	if n := strings.Count(log.String(), "flood."); n > maxTold {
		t.Errorf("%d lines", n)
	}
}
