package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"sluice/shared/embedded"
)

// marked is in every secret of these tests.
const marked = "s3cr3t"

// told checks that a text holds no secret.
func told(t *testing.T, where, text string, more ...string) {
	t.Helper()
	for _, secret := range append(more, marked) {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("%s tells %q: …%.300s", where, secret, text[max(0, i-200):])
		}
	}
}

// signed is a token that counts, with the secret.
func signed(secret string) string {
	part := base64.RawURLEncoding.EncodeToString
	text := part([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + part([]byte(`{"sub":"anna","channels":["a"]}`))
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(text))
	return text + "." + part(m.Sum(nil))
}

// secretNATS is a NATS server that wants user and password.
func secretNATS(t *testing.T) *embedded.NATS {
	t.Helper()
	return embedded.TestNATSWith(t, embedded.NATSOptions{Modify: func(o *server.Options) {
		o.Username, o.Password = "anna", marked+"-nats"
	}})
}

// No program tells a secret of its settings, or a token: not at any level of the log,
// in a metric, an answer or an error, whether all is well or nothing is.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	n := secretNATS(t)
	r := embedded.TestRedisProcess(t, "--requirepass", marked+"-redis")
	natsURL := "nats://anna:" + marked + "-nats@" + n.Addr()
	redisURL := "redis://:" + marked + "-redis@" + r.Addr()
	jwtSecret, apiKey := marked+strings.Repeat("-jwt", 10), marked+"-api-key-0123"
	const debug = "LOG_LEVEL=debug"

	t.Run("all is well", func(t *testing.T) {
		keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"keys":[]}`) }))
		defer keys.Close()
		bridge := start(t, "bridge", debug, "REDIS_URL="+redisURL, "NATS_URL="+natsURL)
		node := start(t, "ssenode", debug, "NATS_URL="+natsURL, "SSENODE_ADDR=127.0.0.1:0", "SSENODE_JWT_SECRET="+jwtSecret,
			"SSENODE_API_KEYS="+apiKey, "SSENODE_HEAD_TIMEOUT=500ms", "SSENODE_DRAIN_DELAY=0s", "SSENODE_DRAIN_TIME=100ms")
		keyed := start(t, "ssenode", debug, "NATS_URL="+natsURL, "SSENODE_ADDR=127.0.0.1:0", "SSENODE_DRAIN_DELAY=0s", "SSENODE_DRAIN_TIME=100ms",
			"SSENODE_JWKS_URL="+strings.Replace(keys.URL, "://", "://u:"+marked+"@", 1)+"/keys?key="+marked)
		poster := start(t, "publisher serve", debug, "REDIS_URL="+redisURL, "NATS_URL="+natsURL, "PUBLISHER_ADDR=127.0.0.1:0", "PUBLISHER_API_KEYS="+apiKey, "PUBLISHER_DRAIN_DELAY=0s")
		bridge.says(`msg=leading`)
		all := []*proc{bridge, node, keyed, poster}
		for _, p := range all {
			until(t, p.name+" is ready", p.ready)
		}
		parts := strings.Split(signed(jwtSecret), ".")[1:] // the head is the same in all
		url := "http://" + node.says(`msg="node serves" .*addr=(\S+)`)
		requests(t, url, signed(jwtSecret), parts)
		api := "http://" + poster.says(`msg="publisher serves" addr=(\S+)`)
		for _, key := range []string{apiKey, apiKey + "-wrong", "two " + apiKey} {
			told(t, "the publisher", postTo(t, api+"/publish/a", "x", "Authorization: Bearer "+key))
			_, text := request(t, plainClient, http.MethodGet, url+"/presence?channel=a", "", "Authorization: Bearer "+key)
			told(t, "presence", text)
		}
		for _, p := range all {
			for _, path := range []string{"/metrics", "/readyz", "/healthz", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/debug/clients?sub=anna", "/debug/closes", "/debug/why?sub=anna&channel=a", "/nothing"} {
				_, text := fetch(t, p.admin()+path)
				told(t, p.name+path, text, parts...)
			}
			p.stop()
			told(t, p.name, p.output(), parts...)
		}
	})

	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	seedFile := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(seedFile, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	_, keyFile := embedded.TestAuthority(t).Issue(t, "x")
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := httptest.NewServer(http.RedirectHandler("http://u:"+marked+"@127.0.0.1:1/?key="+marked, http.StatusFound))
	defer elsewhere.Close()
	content := []string{string(seed), strings.Split(string(key), "\n")[1]}
	f := func(program, says string, env ...string) {
		t.Helper()
		p := start(t, program, append([]string{debug, "SSENODE_ADDR=127.0.0.1:0", "SSENODE_DRAIN_DELAY=0s", "SSENODE_DRAIN_TIME=0s"}, env...)...)
		if says == "" {
			select {
			case <-p.done:
			case <-time.After(wait):
				t.Fatalf("%q: it runs", env)
			}
			if code := p.cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(p.output(), strings.SplitN(env[0], "=", 2)[0]) {
				t.Errorf("%q: exit code %d, %s", env[0], code, p.output())
			}
		} else {
			p.says(says)
			for _, path := range []string{"/metrics", "/readyz"} {
				_, text := fetch(t, p.admin()+path)
				told(t, p.name+path, text, content...)
			}
			p.stop()
		}
		told(t, program, p.output(), content...)
	}
	none := "127.0.0.1:1" // nobody is there
	f("bridge", "no link to Redis", "REDIS_URL=redis://:"+marked+"-wrong@"+r.Addr(), "NATS_URL="+natsURL)
	f("bridge", "refuses the login", "NATS_URL=nats://anna:"+marked+"-wrong@"+n.Addr(), "REDIS_URL=rediss://u:"+marked+"@"+r.Addr())
	f("ssenode", "refuses the login", "NATS_URL=nats://"+marked+"-token@"+n.Addr())
	f("ssenode", "refuses the login", "NATS_NKEY="+seedFile, "NATS_URL=nats://"+n.Addr())
	f("ssenode", "does not answer yet", "NATS_URL=nats://"+marked+"-token@"+none+",nats://u:"+marked+"@"+none)
	f("ssenode", "no TLS with NATS", "NATS_URL=tls://anna:"+marked+"@"+n.Addr())
	f("ssenode", "cannot be fetched", "NATS_URL="+natsURL, "SSENODE_JWKS_URL=http://u:"+marked+"@"+none+"/?key="+marked)
	f("ssenode", "cannot be fetched", "NATS_URL="+natsURL, "SSENODE_JWKS_URL="+strings.Replace(elsewhere.URL, "://", "://u:"+marked+"@", 1))

	f("ssenode", "", "NATS_URL=nats://anna:"+marked)
	f("ssenode", "", "NATS_URL=nats://anna:a,"+marked+"@h:1")
	f("ssenode", "", "NATS_URL="+marked+"@h")
	f("ssenode", "", "NATS_NKEY="+string(seed))
	f("bridge", "", "NATS_CREDS=eyJ0eXAiOiJKV1QifQ."+marked+".x")
	f("bridge", "", "NATS_KEY="+string(key), "NATS_CERT=x")
	f("bridge", "", "REDIS_CA="+string(key), "REDIS_URL=rediss://h")
	f("bridge", "", "REDIS_URL="+marked+"@h:1")
	f("bridge", "", "REDIS_URL=redis://:a/"+marked+"@h")
	f("ssenode", "", "SSENODE_API_KEYS="+marked)
	f("publisher serve", "", "PUBLISHER_API_KEYS="+apiKey+","+apiKey)
	f("ssenode", "", "SSENODE_TLS_KEY="+string(key), "SSENODE_TLS_CERT=x")
	f("ssenode", "", "SSENODE_JWT_PUBLIC_KEY="+string(key))
	f("ssenode", "", "SSENODE_JWT_PUBLIC_KEY="+keyFile)
	f("ssenode", "", "SSENODE_JWKS_URL=http//u:"+marked+"@h")
	f("ssenode", "", "SSENODE_JWKS_URL=http://u:"+marked+"@h", "SSENODE_JWT_SECRET="+jwtSecret)

	// The publisher, and what each program says of itself.
	env := []string{debug, "NATS_URL=" + natsURL, "SSENODE_JWT_SECRET=" + jwtSecret, "SSENODE_JWKS_URL=http://u:" + marked + "@h", "NATS_NKEY=" + string(seed), "SSENODE_API_KEYS=" + apiKey, "PUBLISHER_API_KEYS=" + apiKey}
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{redisURL, "redis://:" + marked + "-wrong@" + r.Addr(), "redis://:" + marked + "@" + none, marked + "@h"} {
		for _, args := range []string{"bridge -h", "ssenode -h", "publisher -h", "publisher send a x", "publisher simulate race -for 100ms", "publisher tap a -for 100ms", "publisher send -h", "publisher serve -h", "bridge -nonsense", "ssenode x"} {
			words := strings.Fields(args)
			cmd := exec.CommandContext(t.Context(), filepath.Join(dir, words[0]), words[1:]...)
			cmd.Env = append([]string{"REDIS_URL=" + url}, env...)
			out, _ := cmd.CombinedOutput()
			if len(out) == 0 {
				t.Errorf("%s: no output", args)
			}
			told(t, args, string(out), content...)
		}
	}
}

// refresh is a request to POST /refresh.
func refresh(body string) string {
	return fmt.Sprintf("POST /refresh HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// requests makes good and bad ones with tokens, and looks at the answers.
func requests(t *testing.T, url, token string, parts []string) {
	t.Helper()
	addr := strings.TrimPrefix(url, "http://")
	bad := "eyJhbGciOiJub25lIn0." + marked + "." + marked
	for _, request := range []string{
		"GET /events?channel=a&token=" + token + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /events?channel=b&token=" + token + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /poll?channel=a&token=" + token + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /events?channel=a&token=" + bad + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /events?channel=a&token=%zz" + bad + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /events?channel=a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + bad + "\r\nConnection: close\r\n\r\n",
		"GET /events?channel=a HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + bad + "\r\nConnection: close\r\n\r\n",
		"GET /events?channel=a HTTP/1.1\r\nHost: x\r\nCookie: sluice_token=" + bad + "\r\nConnection: close\r\n\r\n",
		"GET /nothing?token=" + token + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"POST /events?token=" + token + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /events?token=" + token + " HTTP/9\r\n\r\n",
		refresh(`{"clientId":"anna","token":"` + token + `"}`), refresh(`{"clientId":"eve","token":"` + token + `"}`),
		refresh(`{"clientId":"anna","token":"` + bad + `"}`), refresh("token=" + token),
		"GET /events?token=" + token + " HTTP/1.1\r\nBroken " + bad + "\r\n\r\n",
		"GET /events?token=" + token + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + bad, // never ends
		"GET /events?token=" + strings.Repeat(token, 300) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"\x16\x03\x01" + token + "\r\n\r\n",
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(wait))
		_, _ = fmt.Fprint(c, request)
		if strings.Contains(request, "channel=a&token="+token) && !strings.Contains(request, "poll") {
			b := make([]byte, 1024)
			k, err := c.Read(b)
			if err != nil || !strings.HasPrefix(string(b[:k]), "HTTP/1.1 200 ") {
				t.Errorf("the token does not count: %q, %v", b[:k], err)
			}
			c.Close()
			continue
		}
		answer, _ := io.ReadAll(c)
		c.Close()
		told(t, "the answer", string(answer), parts...)
	}
}
