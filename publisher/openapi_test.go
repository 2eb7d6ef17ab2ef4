package publisher

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"sluice/shared/embedded"
)

// contract compares what is answered with the description, and notes what of it was
// seen.
type contract struct {
	t      *testing.T
	doc    *openapi3.T
	seen   map[string]bool // `POST /notify 200`
	fields map[string]bool // `200 recipients`: of answers
}

func newContract(t *testing.T) *contract {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(description)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return &contract{t: t, doc: doc, seen: map[string]bool{}, fields: map[string]bool{}}
}

func (c *contract) operation(method, path string) *openapi3.Operation {
	c.t.Helper()
	item := c.doc.Paths.Value(path)
	if item == nil || item.GetOperation(method) == nil {
		c.t.Fatalf("%s %s is not described", method, path)
	}
	return item.GetOperation(method)
}

// answered checks one answer.
func (c *contract) answered(method, path string, r reply) {
	c.t.Helper()
	what := fmt.Sprintf("%s %s %d", method, path, r.status)
	response := c.operation(method, path).Responses.Status(r.status)
	if response == nil {
		c.t.Errorf("%s is not described: %s", what, r.body)
		return
	}
	c.seen[what] = true
	for name := range response.Value.Headers {
		if r.header != nil && r.header.Get(name) == "" {
			c.t.Errorf("%s: no header %s", what, name)
		}
	}
	media := response.Value.Content.Get("application/json")
	if media == nil {
		if r.body != "" {
			c.t.Errorf("%s: has a body: %s", what, r.body)
		}
		return
	}
	value := c.parse(r.body)
	if err := c.doc.ValidateSchemaJSON(media.Schema.Value, value, openapi3.EnableJSONSchema2020()); err != nil {
		c.t.Errorf("%s: %s: %v", what, r.body, err)
	}
	c.note(r.status, value)
}

func (c *contract) parse(text string) any {
	c.t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		c.t.Fatalf("%s: %v", text, err)
	}
	return value
}

func (c *contract) note(status int, value any) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			c.note(status, item)
		}
	case map[string]any:
		if value["success"] == false && status == http.StatusOK {
			status = http.StatusBadRequest // an item that is refused
		}
		for name := range value {
			c.fields[fmt.Sprintf("%d %s", status, name)] = true
		}
	}
}

// takes tells whether the description takes this body.
func (c *contract) takes(path string, body any) bool {
	c.t.Helper()
	schema := c.operation(http.MethodPost, path).RequestBody.Value.Content.Get("application/json").Schema.Value
	return c.doc.ValidateSchemaJSON(schema, body, openapi3.EnableJSONSchema2020()) == nil
}

// requests are good ones, with every field that there is.
func requests() map[string]string {
	return map[string]string{
		"/publish/{channel}": `x`,
		"/publish":           `[{"channel":"a","event":"e","data":{"a":[1]},"criteria":{"role":["x",1,true],"level":2}},{"channel":"a","event":null,"data":1}]`,
		"/notify":            `{"channel":"a","event":"e","data":null,"criteria":{"role":"x"}}`,
		"/broadcast":         `{"event":"e","data":1}`,
		"/revoke":            `{"sub":"a","for":"1h"}`,
	}
}

func filled(path string) string { return strings.Replace(path, "{channel}", "a", 1) }

// The description is what the handlers do: each path and method, each status, each
// field of a request and of an answer, and nothing else.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	c := newContract(t)
	r := embedded.TestRedis(t)
	const key = "a-key-that-is-long-enough"
	nats := embedded.TestNATS(t)
	small := func(s *ServeConfig) {
		s.Publisher.MaxBody, s.Publisher.MaxPayload = 1200, 1200
		s.Publisher.NATS, s.NATS.URL = true, nats.URL()
	}
	plain := serve(t, r.URL(), small)
	keyed := serve(t, r.URL(), func(s *ServeConfig) {
		_ = s.Publisher.APIKeys.Decode(key)
		s.Publisher.NATS, s.NATS.URL = true, nats.URL()
		s.Publisher.Rate, s.Publisher.MaxItems = 0.001, 2
	})
	slow := serve(t, r.URL(), func(s *ServeConfig) { s.Publisher.ReadTimeout = 20 * time.Millisecond })

	until(t, "NATS is there", func() bool { return plain.s.nodes.nc.IsConnected() && keyed.s.nodes.nc.IsConnected() })
	var paths []string
	for e := range endpoints {
		paths = append(paths, e.String())
	}
	if got, want := slices.Sorted(maps.Keys(c.doc.Paths.Map())), append(slices.Clone(paths), "/openapi.json"); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("described are %q, served %q", got, want)
	}
	for path, item := range c.doc.Paths.Map() {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} {
			described := item.GetOperation(method) != nil
			if r := plain.send(method, filled(path), ""); described == (r.status == http.StatusMethodNotAllowed) {
				t.Errorf("%s %s: %d, described: %v", method, path, r.status, described)
			}
		}
		c.answered("OPTIONS", path, plain.send("OPTIONS", filled(path), "", "Origin: https://a.example"))
	}
	whole := plain.send("GET", "/openapi.json", "")
	c.answered("GET", "/openapi.json", whole)
	if whole.body != strings.TrimSpace(string(description)) {
		t.Error("what is served is not the description")
	}
	for path, body := range requests() {
		post := func(a *api, status int, body string, header ...string) {
			t.Helper()
			r := a.post(filled(path), body, header...)
			if r.status != status {
				t.Errorf("%s %.100s: %d %s, want %d", path, body, r.status, r.body, status)
			}
			c.answered("POST", path, r)
		}
		post(plain, 200, body)
		c.answered("POST", path, plain.post(filled(path)+"?recipients=0", body))
		c.answered("POST", path, plain.post(filled(path)+"?recipients=none", body))
		post(plain, 403, body, "Origin: https://evil.example")
		post(plain, 413, strings.Repeat(" ", 1201))
		post(keyed, 401, body)
		for keyed.post(filled(path), body, "Authorization: Bearer "+key).status == http.StatusOK {
			continue // until what the key has is used up
		}
		post(keyed, 429, body, "Authorization: Bearer "+key)
		c.answered("POST", path, plain.post(filled(path)+"?"+strings.Repeat("x", headLimit), body))
		c.answered("POST", path, slow.raw("POST "+filled(path)+" HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"))
		if path != "/publish/{channel}" {
			c.fieldsOf(plain, path, body)
		}
	}
	// An item that is refused, a message of which nobody knows.
	c.answered("POST", "/publish", plain.post("/publish", `[{},{"channel":"a","data":1}]`))
	p := embedded.TestProxy(t, r.Addr())
	unsure := serve(t, "redis://"+p.Addr()+"?read_timeout=500ms", nil)
	for answer := (reply{}); !strings.Contains(answer.body, "uncertain"); {
		unsure.ready()
		p.Swallow.Store(true)
		answer = unsure.post("/publish/a", "x")
		c.answered("POST", "/publish/{channel}", answer)
		p.Swallow.Store(false)
		p.Cut()
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	nats.Shutdown()
	until(t, "Redis and NATS are away", func() bool { return plain.s.link.away() && !plain.s.nodes.nc.IsConnected() })
	for path, body := range requests() {
		c.answered("POST", path, plain.post(filled(path), body))
	}
	c.complete()
}

// fieldsOf takes fields away from a good request, puts others in, and gives them
// values of other kinds: what the description does not take, the server refuses, and
// the other way round.
func (c *contract) fieldsOf(a *api, path, good string) {
	c.t.Helper()
	try := func(body any) {
		c.t.Helper()
		text, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		r := a.post(path, string(text))
		c.answered("POST", path, r)
		taken := r.status == http.StatusOK && !strings.Contains(r.body, `"success":false`)
		if described := c.takes(path, body); described != taken {
			c.t.Errorf("%s %s: %d %s, by the description it is right: %v", path, text, r.status, r.body, described)
		}
	}
	wrap := func(object map[string]any) any {
		if path == "/publish" {
			return []any{object}
		}
		return object
	}
	object, _ := c.parse(good).(map[string]any)
	if list, ok := c.parse(good).([]any); ok {
		object, _ = list[0].(map[string]any)
	}
	try(c.parse(good))
	for _, other := range []any{nil, "x", 1, true, []any{}, []any{nil}, map[string]any{}} {
		try(other)
	}
	names := append(slices.Collect(maps.Keys(object)), "clientId", "group", "unknown", "Event", "criteria")
	for _, name := range names {
		without := maps.Clone(object)
		delete(without, name)
		try(wrap(without))
		for _, value := range []any{nil, "x", "", "x:y", "x\ny", 1.5, false, []any{}, []any{"x"}, []any{map[string]any{}}, map[string]any{}, map[string]any{"a": nil}, map[string]any{"a": []any{1, "x"}}} {
			with := maps.Clone(object)
			with[name] = value
			try(wrap(with))
			if name == "clientId" || name == "group" {
				delete(with, "channel")
				try(wrap(with))
			}
		}
	}
}

// complete checks that all that is described was seen.
func (c *contract) complete() {
	c.t.Helper()
	for path, item := range c.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				if what := method + " " + path + " " + status; !c.seen[what] {
					c.t.Errorf("%s is described and was not seen", what)
				}
			}
		}
	}
	for status, name := range map[string]string{"200": "Published", "400": "Refused", "503": "Refused", "401": "Unauthorized", "403": "Forbidden"} {
		for field := range c.doc.Components.Schemas[name].Value.Properties {
			if field == "uncertain" && status == "400" {
				continue // only Redis makes it so
			}
			if !c.fields[status+" "+field] {
				c.t.Errorf("%s: the field %s of %s was not seen", status, field, name)
			}
		}
	}
}
