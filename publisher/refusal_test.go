package publisher

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/shared/embedded"
)

// What is refused, with which words and reason; nothing of it is published.
func TestServeRefusals(t *testing.T) {
	url := embedded.TestRedis(t).URL()
	a := serve(t, url, func(c *ServeConfig) {
		c.Publisher.MaxPayload, c.Publisher.MaxBody, c.Publisher.MaxItems = 1000, 3000, 3
	})
	sub := subscribe(t, url, "*")
	f := func(w why, text, path, body string, header ...string) {
		t.Helper()
		before := a.refused(w)
		r := a.want(w.status(), text, path, body, header...)
		if !strings.HasPrefix(r.body, `{"success":false,"error":"`) || a.refused(w) != before+1 {
			t.Errorf("POST %.100s %.100s: %s, counted as %v: %d", path, body, r.body, w, a.refused(w)-before)
		}
	}
	a.wantRaw(400, `invalid URL escape`, "POST /publish/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	f(badRequest, `recipients=\"2\": want 0`, "/publish/a?recipients=2", "")
	f(nameTooLong, "too long", "/publish/"+strings.Repeat("x", 1025), "")
	f(nameTooLong, "too long", "/publish/"+strings.Repeat("%FF", 400), "")
	f(reservedName, "sluice:mark", "/publish/sluice:mark", "forged")
	f(reservedName, "__keyspace@0__:x", "/publish/__keyspace@0__:x", "")
	f(reservedName, "__sentinel__:hello", "/publish/__sentinel__:hello", "")
	f(payloadTooLarge, "1001 bytes: want at most 1000", "/publish/a", strings.Repeat("x", 1001))
	f(payloadTooLarge, "want at most 1000", "/notify", `{"channel":"a","event":"e","data":"`+strings.Repeat("x", 980)+`"}`)
	f(bodyTooLarge, "larger than 3000 bytes", "/publish/a", strings.Repeat("x", 3001))
	f(bodyTooLarge, "larger than 3000 bytes", "/notify", strings.Repeat("x", 100_000))
	f(tooManyItems, "more than 3 messages", "/publish", `[{},{},{},{}]`)

	f(badRequest, "want JSON", "/publish", ``)
	f(badRequest, "an array", "/publish", `{"channel":"a","data":1}`)
	f(badRequest, "want JSON", "/publish", `[{"channel":"a","data":1}`)
	f(badRequest, "nothing after it", "/publish", `[] []`)
	f(badRequest, "not UTF-8", "/publish", "[{\"channel\":\"a\",\"data\":\"\xff\"}]")
	f(badRequest, "at byte 15", "/notify", `{"event":"e",`+"\n"+`}`)
	f(badRequest, "an object", "/notify", `[]`)
	f(badRequest, "got null", "/notify", `null`)
	f(badRequest, "not UTF-8", "/notify", "{\"event\":\"\xff\"}")
	f(badRequest, "one of channel, clientId and group, got 0", "/notify", `{"event":"e","data":1}`)
	f(badRequest, "got 2", "/notify", `{"channel":"a","group":"b","event":"e","data":1}`)
	f(badRequest, `\"event\" is missing`, "/notify", `{"channel":"a","data":1}`)
	f(badRequest, `\"event\": want a string, got null`, "/notify", `{"channel":"a","event":null,"data":1}`)
	f(badRequest, `\"data\" is missing`, "/notify", `{"channel":"a","event":"e"}`)
	f(badRequest, `\"channel\": want a string, got 5`, "/notify", `{"channel":5,"event":"e","data":1}`)
	f(badRequest, `no line break`, "/notify", `{"channel":"a","event":"e\nid: 1","data":1}`)
	f(badRequest, `unknown field \"Event\"`, "/notify", `{"channel":"a","Event":"e","data":1}`)
	f(badRequest, `unknown field \"criterai\"`, "/notify", `{"channel":"a","event":"e","data":1,"criterai":{}}`)
	f(badRequest, `unknown field \"criteria\": want event, data`, "/broadcast", `{"event":"e","data":1,"criteria":{}}`)
	for _, criteria := range []string{`null`, `"admin"`, `[]`, `{"a":null}`, `{"a":{}}`, `{"a":[["x"]]}`, `{"a":[null]}`} {
		f(badRequest, `\"criteria\": `, "/notify", `{"channel":"a","event":"e","data":1,"criteria":`+criteria+`}`)
	}
	for _, id := range []string{"", "a:b", "*", "a b", "ü", "a/b", strings.Repeat("x", 65), "a\n"} {
		quoted, _ := json.Marshal(id)
		f(badRequest, "clientId ", "/notify", `{"clientId":`+string(quoted)+`,"event":"e","data":1}`)
	}
	for _, group := range []string{"", "a:b", ":", "a\u0000", "a\n"} {
		quoted, _ := json.Marshal(group)
		f(badRequest, "group ", "/notify", `{"group":`+string(quoted)+`,"event":"e","data":1}`)
	}
	f(nameTooLong, "too long", "/notify", `{"group":"`+strings.Repeat("x", 1024-len("sse:group:")+1)+`","event":"e","data":1}`)
	f(notFound, "nothing is at", "/publishx", "")
	f(notFound, "nothing is at", "/notify/", "")
	f(badMethod, "want GET, HEAD, OPTIONS", "/openapi.json", "")
	if r := a.send(http.MethodGet, "/publish/a", ""); r.status != 405 || r.header.Get("Allow") != "POST, OPTIONS" || !strings.Contains(r.body, `"error":"method \"GET\"`) {
		t.Errorf("%+v", r)
	}
	f(headTooLarge, "16 KiB", "/publish/a?"+strings.Repeat("x", headLimit), "")

	a.want(200, published, "/publish/end", "")
	sub.gets("end", "")
}

// Who sends far too much gets the answer all the same, and not a reset connection.
func TestServeFarTooMuch(t *testing.T) {
	url := embedded.TestRedis(t).URL()
	open := serve(t, url, nil)
	keyed := serve(t, url, func(c *ServeConfig) { _ = c.Publisher.APIKeys.Decode("a-key-that-is-long-enough") })
	body := strings.Repeat("x", 20<<20)
	for range 5 {
		open.want(413, "larger than 2097152 bytes", "/publish/a", body)
		keyed.want(401, "missing", "/publish/a", body)
	}
}

// A request that does not come is answered and its connection closed.
func TestServeSlowRequest(t *testing.T) {
	a := serve(t, embedded.TestRedis(t).URL(), func(c *ServeConfig) { c.Publisher.ReadTimeout = 50 * time.Millisecond })
	for _, text := range []string{"POST /publish/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", "POST /publish/a HTTP/1.1\r\nHo"} {
		a.wantRaw(http.StatusRequestTimeout, "within 50ms", text)
	}
	a.wantRaw(http.StatusBadRequest, "HTTP/1.1", "no request at all\r\n\r\n")
}
