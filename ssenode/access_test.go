package ssenode

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sluice/ssenode/auth"
	"sluice/ssenode/limits"
)

const (
	testSecret = "a secret that nobody guesses so soon"
	testIssuer = "https://issuer.example"
)

// claims are those of a good token, with changes; nil takes one away.
func claims(changes ...any) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "anna", "iss": testIssuer, "aud": "sluice", "exp": in(time.Hour), "channels": []string{"x", "game:*"}}
	for i := 0; i < len(changes); i += 2 {
		name := changes[i].(string)
		if c[name] = changes[i+1]; changes[i+1] == nil {
			delete(c, name)
		}
	}
	return c
}

func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

// sign makes a token; header fields follow in pairs.
func sign(t testing.TB, m jwt.SigningMethod, key any, c jwt.MapClaims, header ...string) string {
	t.Helper()
	token := jwt.NewWithClaims(m, c)
	for i := 0; i < len(header); i += 2 {
		token.Header[header[i]] = header[i+1]
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// hs is a good token, signed with the test's secret, with changed claims.
func hs(t testing.TB, changes ...any) string {
	t.Helper()
	return sign(t, jwt.SigningMethodHS256, []byte(testSecret), claims(changes...))
}

// forge puts a token together as it is.
func forge(header, payload, signature string) string {
	b := base64.RawURLEncoding.EncodeToString
	return b([]byte(header)) + "." + b([]byte(payload)) + "." + b([]byte(signature))
}

// sameBytes is another text that sloppy decoders read as the same signature.
func sameBytes(token string) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(token) - 1
	return token[:last] + string(digits[strings.IndexByte(digits, token[last])^1])
}

func bearer(token string) string { return "Authorization: Bearer " + token }
func cookie(token string) string { return "Cookie: theme=dark; sluice_token=" + token }
func query(token string) string  { return "&token=" + url.QueryEscape(token) }

func code(c auth.Code) string   { return `{"error":"Unauthorized","code":"` + string(c) + `"}` }
func noChannel(c string) string { return `{"error":"Forbidden","channel":"` + c + `"}` }

// guarded starts a node that wants tokens.
func guarded(t testing.TB, u *upstream, change func(*Settings)) *Node {
	t.Helper()
	return startNode(t, u, func(c *Config) {
		s := &c.SSENode
		s.JWT.Secret = auth.NewSecret(testSecret)
		s.JWT.Issuer, s.JWT.Audience = testIssuer, []string{"other", "sluice"}
		for value, decode := range map[string]func(string) error{
			"user:{claim.sub}, sse:group:{claim.groups}, org:{claim.org.id}:>, sse:channel:{clientId}": s.UserChannels.Decode,
			"public:>, free": s.PublicChannels.Decode,
			"/mine=user:{claim.sub}; /groups=public:news,sse:group:{claim.groups}; /only=sse:group:{claim.groups};" +
				"/org=org:{claim.org.id}:a; /race=public:{query.race}; /secret=secret:{query.x}; /all=org:{claim.org.id}:*; /own=sse:channel:{clientId}": s.Endpoints.Decode,
		} {
			if err := decode(value); err != nil {
				t.Fatal(err)
			}
		}
		if change != nil {
			change(s)
		}
	})
}

// Every kind of token and request has its answer.
func TestAccess(t *testing.T) {
	t.Parallel()
	n := guarded(t, newUpstream(t), nil)
	good := hs(t)
	count := 0
	// f asks for what with a token in the header and wants a status, and text in
	// the answer; of a stream, in its connected event.
	g := func(what string, status int, text string, lines ...string) {
		t.Helper()
		count++
		a := ask(t, n, what, lines...)
		if a.status != status || !strings.Contains(a.body, text) {
			t.Errorf("%s: got %d %s, want %d with %s", clip(what), a.status, clip(a.body), status, text)
		}
		if a.status == 401 && a.header.Get("Www-Authenticate") != "Bearer" {
			t.Errorf("%s: header %v", clip(what), a.header)
		}
		for _, line := range lines {
			if _, token, ok := strings.Cut(line, "Bearer "); ok && len(token) > 5 && strings.Contains(a.body, token) {
				t.Errorf("%s: the answer %s repeats the token", clip(what), clip(a.body))
			}
		}
	}
	f := func(token string, status int, text string) {
		t.Helper()
		g("/events?channel=x", status, text, bearer(token))
	}
	const x = `"channels":["x"]`
	// Tokens that count, and those that do not.
	f(good, 200, x)
	f(sign(t, jwt.SigningMethodHS384, []byte(testSecret), claims()), 200, x)
	f(sign(t, jwt.SigningMethodHS512, []byte(testSecret), claims()), 200, x)
	f(hs(t, "exp", nil), 200, x)
	f(hs(t, "exp", in(-10*time.Second)), 200, x) // within the leeway
	f(hs(t, "exp", 1e300), 200, x)
	f(hs(t, "nbf", in(10*time.Second)), 200, x)
	f(hs(t, "nbf", in(-time.Hour)), 200, x)
	f(hs(t, "aud", []string{"a", "sluice"}), 200, x)
	f(hs(t, "channels", "x"), 200, x)
	f(hs(t, "exp", in(-31*time.Second)), 401, code(auth.Expired))
	f(hs(t, "exp", 0), 401, code(auth.Expired))
	f(hs(t, "exp", -1e300), 401, code(auth.Expired))
	f(hs(t, "exp", "tomorrow"), 401, code(auth.Malformed))
	f(hs(t, "nbf", "x"), 401, code(auth.Malformed))
	f(hs(t, "nbf", in(40*time.Second)), 401, code(auth.NotYetValid))
	f(hs(t, "iss", "https://issuer.example/"), 401, code(auth.Issuer))
	f(hs(t, "iss", nil), 401, code(auth.Issuer))
	f(hs(t, "iss", 7), 401, code(auth.Issuer))
	f(hs(t, "aud", "another"), 401, code(auth.Audience))
	f(hs(t, "aud", []string{}), 401, code(auth.Audience))
	f(hs(t, "aud", nil), 401, code(auth.Audience))
	f(hs(t, "aud", map[string]string{"sluice": ""}), 401, code(auth.Audience))
	f(hs(t, "exp", in(-time.Hour), "aud", "another"), 401, code(auth.Expired))
	f(sign(t, jwt.SigningMethodHS256, []byte("another secret, as long as the one"), claims()), 401, code(auth.BadSignature))
	f(sign(t, jwt.SigningMethodHS256, []byte(""), claims()), 401, code(auth.BadSignature))
	f(sign(t, jwt.SigningMethodHS256, []byte("another"), claims("exp", in(-time.Hour))), 401, code(auth.BadSignature)) // tells a forger nothing
	f(sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims()), 401, code(auth.BadSignature))
	payload, err := json.Marshal(claims())
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	f(forge(`{"alg":"none"}`, string(payload), ""), 401, code(auth.BadSignature))
	f(forge(`{"alg":"None"}`, string(payload), "x"), 401, code(auth.BadSignature))
	f(forge(`{"alg":"hs256"}`, string(payload), "x"), 401, code(auth.BadSignature))
	f(forge(`{"alg":"RS256"}`, string(payload), strings.Repeat("x", 256)), 401, code(auth.BadSignature))
	f(forge(`{"alg":"ES256"}`, string(payload), strings.Repeat("x", 64)), 401, code(auth.BadSignature))
	f(forge(`{"alg":["HS256"]}`, string(payload), "x"), 401, code(auth.BadSignature))
	f(forge(`{}`, string(payload), "x"), 401, code(auth.BadSignature))
	f(forge(`[]`, string(payload), "x"), 401, code(auth.Malformed))
	f(sign(t, jwt.SigningMethodHS256, []byte(testSecret), claims(), "crit", "b64"), 401, code(auth.Malformed))
	f(sign(t, jwt.SigningMethodHS256, []byte(testSecret), claims(), "kid", "../../dev/null"), 200, x) // one key, whatever its name
	f(parts[0]+"."+parts[1], 401, code(auth.Malformed))
	f(parts[0]+"."+parts[1]+".", 401, code(auth.BadSignature))
	f(good+"."+parts[2], 401, code(auth.Malformed))
	f(good[:len(good)-3], 401, code(auth.BadSignature))
	f(good+"A", 401, code(auth.BadSignature))
	f(good+"=", 401, code(auth.Malformed))
	f(sameBytes(good), 401, code(auth.Malformed)) // it would be another token to whoever keeps a list
	f(parts[0]+"."+parts[2]+"."+parts[1], 401, code(auth.Malformed))
	f(parts[0]+"."+base64.RawURLEncoding.EncodeToString(append(payload, ' '))+"."+parts[2], 401, code(auth.BadSignature))
	f("..", 401, code(auth.Malformed))
	f("nonsense", 401, code(auth.Malformed))
	f(strings.Repeat("a.", 2000), 401, code(auth.Malformed))
	f(forge(`{"alg":"HS256"}`, strings.Repeat(`{"a":`, 2000), "x"), 401, code(auth.Malformed))
	g("/events?channel=x", 431, "16384 bytes", bearer(strings.Repeat("a", 20000)))
	f(hs(t, "channels", []string{"x", strings.Repeat("y", 8000)}), 200, x)

	// Where the token is: the first place counts, whatever it is worth.
	bad := hs(t, "exp", in(-time.Hour))
	g("/events?channel=x", 401, code(auth.Missing))
	g("/events?channel=x&token=", 401, code(auth.Missing))
	g("/events?channel=x", 401, code(auth.Missing), "Authorization: Bearer ")
	g("/events?channel=x", 401, code(auth.Missing), "Authorization: Basic YTpi")
	g("/events?channel=x", 401, code(auth.Missing), "Authorization: "+good)
	g("/events?channel=x", 200, x, "Authorization: bearer   "+good)
	g("/events?channel=x"+query(good), 200, x)
	g("/events?channel=x", 200, x, cookie(good))
	g("/events?channel=x"+query(good), 200, x, "Authorization: Basic YTpi")
	g("/events?channel=x"+query(bad), 200, x, bearer(good), cookie(bad))
	g("/events?channel=x"+query(good), 401, code(auth.Expired), bearer(bad), cookie(good))
	g("/events?channel=x"+query(bad), 401, code(auth.Expired), cookie(good))
	g("/events?channel=x"+query(good), 200, x, cookie(bad))
	g("/events?channel=x", 401, code(auth.Malformed), bearer(good), bearer(hs(t, "sub", "eve")))
	g("/events?channel=x", 200, x, bearer(good), bearer(good))
	g("/events?channel=x", 401, code(auth.Malformed), "Authorization: Bearer "+good+", Bearer "+good)
	g("/events?channel=x"+query(good)+query(bad), 401, code(auth.Malformed))
	g("/events?channel=x", 401, code(auth.Malformed), "Cookie: sluice_token="+good+"; sluice_token="+bad)
	g("/events?channel=x", 401, code(auth.Malformed), "Cookie: sluice_token="+good, "Cookie: sluice_token="+bad)
	g("/events?channel=x", 401, code(auth.Missing), "Cookie: sluice_tokens="+good+"; Sluice_token="+good)
	g("/events?channel=x&Token="+good, 401, code(auth.Missing))
	g("/events?channel=free"+query(bad), 401, code(auth.Expired)) // also where none is needed
	g("/events?channel=free", 200, `"free"`)
	g("/events?channel=x&token=%zz"+good, 400, `token=\"…\"`)

	// What it allows.
	h := func(what string, token string, status int, text string) {
		t.Helper()
		if token == "" {
			g(what, status, text)
			return
		}
		g(what, status, text, bearer(token))
	}
	h("/events?channel=y", good, 403, noChannel("y"))
	h("/events?channel=x&channel=y&channel=z", good, 403, noChannel("y"))
	h("/events/y", good, 403, noChannel("y"))
	h("/events?channel=", good, 403, noChannel(""))
	h("/events?channel=game:1", good, 200, `"game:1"`)
	h("/events?channel=game:1:2", good, 403, noChannel("game:1:2"))
	h("/events?channel=game:*", good, 200, `"game:*"`) // the channel of that name
	h("/events?pattern=game:*", good, 200, `"patterns":["game:*"]`)
	h("/events?pattern=game:%3E", good, 403, noChannel("game:>"))
	h("/events?pattern=%3E", good, 403, noChannel(">"))
	h("/events?pattern=*", good, 403, noChannel("*"))
	h("/events?pattern=*", hs(t, "channels", []string{">"}), 200, `"*"`)
	h("/events?pattern=a:%3E", hs(t, "channels", []string{"a:*", "a:*:>"}), 200, "a:")
	h("/events?pattern=a:%3E", hs(t, "channels", []string{"a:*", "a:*:*:>"}), 403, "a:")
	h("/events?channel=public:a:b", "", 200, "public:a:b")
	h("/events?pattern=public:%3E&channel=free", "", 200, "public")
	h("/events?pattern=*:a", "", 401, code(auth.Missing))
	h("/events?channel=user:anna", good, 200, "user:anna")
	h("/events?channel=user:eve", good, 403, noChannel("user:eve"))
	h("/events?pattern=user:*", good, 403, noChannel("user:*"))
	h("/events?pattern=user:*", hs(t, "sub", "*"), 403, noChannel("user:*"))
	h("/events?channel=user:*", hs(t, "sub", "*"), 200, "user:*")
	h("/events?channel=user:eve", hs(t, "sub", "*"), 403, "user:eve")
	h("/events?channel=user:eve", hs(t, "sub", ">"), 403, "user:eve")
	h("/events?channel=user:eve:x", hs(t, "sub", "eve:>"), 403, "user:eve:x")
	h("/events?channel=user:*", hs(t, "sub", "%2A"), 403, "user:*")
	h("/events?channel=user:a:b", hs(t, "sub", "a:b"), 200, "user:a:b") // kept
	h("/events?channel=user:", hs(t, "sub", ""), 403, "user:")
	h("/events?channel=user:", hs(t, "sub", nil), 403, "user:")
	h("/events?channel=user:12345678901234567890", hs(t, "sub", json.Number("12345678901234567890")), 200, "12345678901234567890")
	h("/events?channel=sse:group:b", hs(t, "groups", []string{"a", "b"}), 200, "sse:group:b")
	h("/events?channel=sse:group:c", hs(t, "groups", []string{"a", "b"}), 403, "sse:group:c")
	h("/events?pattern=sse:group:*", hs(t, "groups", []string{"*"}), 403, "sse:group:*")
	h("/events?channel=sse:group:7", hs(t, "groups", []any{7, nil, map[string]any{}, true}), 200, "sse:group:7")
	h("/events?pattern=org:o1:%3E", hs(t, "org", map[string]any{"id": "o1"}), 200, "org:o1")
	h("/events?channel=org:o2:a", hs(t, "org", map[string]any{"id": "o1"}), 403, "org:o2:a")
	h("/events?channel=org:o2:a", hs(t, "org.id", "o2"), 200, "org:o2:a") // a claim with a dot in its name
	h("/events?channel=x", hs(t, "channels", []any{"x*", 7, "%zz", "a:>:b"}), 403, noChannel("x"))
	h("/events?channel=x", hs(t, "channels", map[string]any{"x": true}), 403, noChannel("x"))
	h("/poll?channel=y", good, 403, noChannel("y"))
	h("/poll?channel=y", "", 401, code(auth.Missing))
	h("/poll?channel=x&timeout=0", good, 200, `"events":[]`)

	// Endpoints.
	h("/mine", good, 200, `"user:anna"`)
	h("/mine", "", 401, code(auth.Missing))
	h("/mine?claim.sub=eve&sub=eve", good, 200, `"user:anna"`)
	h("/mine", hs(t, "sub", nil), 401, `"code":"missing","claim":"sub"`)
	h("/groups", hs(t, "groups", []string{"a", "b"}), 200, `["public:news","sse:group:a","sse:group:b"]`)
	h("/groups", hs(t, "groups", []string{}), 200, `["public:news"]`)
	h("/groups", good, 401, `"claim":"groups"`)
	h("/only", hs(t, "groups", []string{}), 401, `"claim":"groups"`)
	over := n.gate.Refused(limits.Channels)
	h("/groups", hs(t, "groups", strings.Split(strings.Repeat("a,", 300), ",")), 400, "256")
	if n.gate.Refused(limits.Channels) != over+1 {
		t.Error("too many channels of a claim are not counted")
	}
	h("/org", hs(t, "org", map[string]any{"id": "o1"}), 200, `"org:o1:a"`)
	h("/all", hs(t, "org", map[string]any{"id": "*"}), 200, `"patterns":["org:%2A:*"]`)
	h("/race?race=r1", "", 200, `"public:r1"`)
	h("/race", "", 400, `\"race\" is missing`)
	h("/race?race=a:b", good, 400, "colon")
	h("/secret?x=1", good, 403, noChannel("secret:1"))
	h("/secret?x=1", "", 401, code(auth.Missing))

	// Clients' names.
	h("/events?channel=x&clientId=anna", good, 200, `"clientId":"anna"`)
	h("/events?channel=x&clientId=anna.tab.2", good, 200, `"clientId":"anna.tab.2"`)
	h("/events?channel=x", good, 200, `"clientId":"anna.`)
	h("/events?channel=x&clientId=annab", good, 403, `{"error":"Forbidden","clientId":"annab"}`)
	h("/events?channel=x&clientId=eve", good, 403, `"clientId":"eve"`)
	h("/events?channel=x&clientId=eve", hs(t, "sub", nil), 403, `"clientId":"eve"`)
	h("/events?channel=free&clientId=eve", "", 403, `"clientId":"eve"`)
	h("/events?channel=x&clientId=auth0~7C5.a", hs(t, "sub", "auth0|5"), 200, "auth0~7C5.a")
	h("/events?channel=x&clientId=a.b", hs(t, "sub", "a.b"), 403, `"clientId":"a.b"`) // would be one of a's
	h("/events?channel=x&clientId=a~2Eb", hs(t, "sub", "a.b"), 200, "a~2Eb")
	h("/own?clientId=anna.1", good, 200, `"sse:channel:anna.1"`)
	h("/own?clientId=eve", good, 403, `"clientId":"eve"`)
	h("/events?channel=sse:channel:anna.2&clientId=anna.1", good, 403, "sse:channel:anna.2")

	for path, status := range map[string]int{"/events?channel=x": 401, "/mine": 401, "/events?channel=free": 200, "/events?channel=y" + query(good): 403} {
		if resp, _ := get(t, http.MethodHead, base(n)+path); resp.StatusCode != status {
			t.Errorf("HEAD %s: %d, want %d", clip(path), resp.StatusCode, status)
		}
	}
	if count < 60 {
		t.Errorf("only %d cases", count)
	}
	t.Logf("%d cases", count)
	var nobody uint64
	for i := range n.stats.nobody {
		nobody += n.stats.nobody[i].Load()
	}
	if nobody == 0 || n.stats.forbidden.Load() == 0 {
		t.Errorf("counted: %d unauthorized, %d forbidden", nobody, n.stats.forbidden.Load())
	}
	until(t, "all streams are closed", func() bool { return n.stats.open() == 0 })
}

// Without a key everything is open, tokens are not looked at, and claims are not
// to be had.
func TestAccessOpen(t *testing.T) {
	t.Parallel()
	n := startNode(t, newUpstream(t), func(c *Config) {
		if err := c.SSENode.Endpoints.Decode("/mine=user:{claim.sub}"); err != nil {
			t.Fatal(err)
		}
	})
	f := func(path string, status int, text string, lines ...string) {
		t.Helper()
		if a := ask(t, n, path, lines...); a.status != status || !strings.Contains(a.body, text) {
			t.Errorf("%s: got %d %s, want %d with %s", path, a.status, a.body, status, text)
		}
	}
	f("/events?pattern=%3E&clientId=eve", 200, `"clientId":"eve"`)
	f("/events?channel=a&token=nonsense", 200, `"a"`, bearer("nonsense"))
	f("/mine", 401, code(auth.Missing), bearer(hs(t)))
}

// A resume reads with the token that came with it: neither the position nor the
// connection before it opens a channel.
func TestAccessReplay(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := guarded(t, u, nil)
	both, one := hs(t, "channels", []string{"a", "b"}), hs(t, "channels", []string{"a"})
	s := open(t, n, "/events?channel=a&channel=b"+query(both))
	settle(t, n)
	var id string
	for i := range 3 {
		u.publish("a", fmt.Sprint("a", i))
		u.publish("b", fmt.Sprint("b", i))
		for _, name := range []string{"a", "b"} {
			if ev := want(t, s, "", fmt.Sprint(name, i)); id == "" {
				id = ev.ID
			}
		}
	}
	s.Close()
	for _, path := range []string{"/events", "/poll"} {
		for _, q := range []string{"?channel=a&channel=b", "?channel=b", "?pattern=*"} {
			for _, at := range []string{"&lastEventId=" + id, "&initial=10"} {
				if a := ask(t, n, path+q+at, bearer(one)); a.status != 403 || strings.Contains(a.body, "b1") {
					t.Errorf("%s%s%s: got %d %s", path, q, at, a.status, a.body)
				}
			}
		}
	}
	again := resume(t, n, "/events?channel=a"+query(one), id)
	want(t, again, "", "a1")
	want(t, again, "", "a2")
	u.publish("b", "not this")
	u.publish("a", "this")
	want(t, again, "", "this")
	a := ask(t, n, "/poll?channel=a&lastEventId="+id, bearer(one))
	if a.status != 200 || strings.Contains(a.body, `"channel":"b"`) || !strings.Contains(a.body, `"a2"`) {
		t.Errorf("poll: %d %s", a.status, a.body)
	}
}
