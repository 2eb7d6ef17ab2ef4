package ssenode

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sluice/shared/route"
	"sluice/shared/sseclient"
	"sluice/ssenode/auth"
)

// told is an event for those for whom the criteria hold.
func told(data, criteria string) string {
	return fmt.Sprintf(`{"event":"e","data":%q,"criteria":%s}`, data, criteria)
}

// conditional publishes to all of the channels, and tells what a client with the
// attribute role is to get of it on each.
func conditional(u *upstream, round string, names ...string) (forRole func(role string) []string) {
	type item struct {
		data  string
		roles []string // nil: everybody
	}
	items := []item{
		{"all " + round, nil},
		{"admins " + round, []string{"admin"}},
		{"both " + round, []string{"admin", "user"}},
		{"nobody " + round, []string{}},
		{"end " + round, nil},
	}
	for _, it := range items {
		criteria := "{}"
		if it.roles != nil {
			list, _ := json.Marshal(it.roles)
			criteria = `{"role":` + string(list) + `}`
		}
		for _, name := range names {
			if strings.HasPrefix(name, "live:") {
				u.live(name, told(it.data, criteria))
			} else {
				u.publish(name, told(it.data, criteria))
			}
		}
	}
	return func(role string) (list []string) {
		for _, it := range items {
			if it.roles == nil || slices.Contains(it.roles, role) {
				list = append(list, fmt.Sprintf("%q", it.data))
			}
		}
		return list
	}
}

// Whatever way an event comes, only clients get it for whom its criteria hold: live,
// with others in one write, in a replay, as an initial one, and without history.
func TestCriteria(t *testing.T) {
	t.Parallel()
	table, err := route.Parse("live:> history=off")
	if err != nil {
		t.Fatal(err)
	}
	eachEngine(t, func(t *testing.T, engine string) {
		u := newUpstream(t)
		n := startNode(t, u, func(c *Config) { c.Routes, c.SSENode.Engine = *table, engine })
		roles := []string{"admin", "user", ""}
		paths := []string{"/events?channel=a", "/events?pattern=a", "/events?pattern=b:*&channel=b:1", "/events?channel=live:1", "/events?channel=a&channel=x&wrap=0"}
		type reader struct {
			*sseclient.Stream
			role, path string
		}
		var readers []reader
		for _, role := range roles {
			for _, path := range paths {
				readers = append(readers, reader{open(t, n, path+"&role="+role), role, path})
			}
		}
		settle(t, n)
		want := conditional(u, "1", "a", "b:1", "live:1")
		gets := func(s *sseclient.Stream, role, when string) {
			t.Helper()
			for _, data := range want(role) {
				if ev := next(t, s); ev.Data != data || ev.Name != "e" {
					t.Fatalf("%q %s: got %s, want %s", role, when, ev.Data, data)
				}
			}
		}
		for _, r := range readers {
			gets(r.Stream, r.role, r.path)
		}
		// They come back.
		for i, r := range readers {
			if readers[i].Close(); strings.Contains(r.path, "live") {
				continue
			}
			until(t, "it has an id", func() bool { return r.LastEventID() != "" })
		}
		want = conditional(u, "2", "a", "b:1", "live:1")
		for _, r := range readers {
			if strings.Contains(r.path, "live") {
				continue
			}
			gets(resume(t, n, r.path+"&role="+r.role, r.LastEventID()), r.role, r.path+" comes back")
		}
		// On another node, out of the stream; and by polls.
		other := startNode(t, u, func(c *Config) { c.Routes, c.SSENode.Engine = *table, engine })
		for _, r := range readers {
			if strings.Contains(r.path, "live") {
				continue
			}
			gets(resume(t, other, r.path+"&role="+r.role, r.LastEventID()), r.role, r.path+" on another node")
			_, body := get(t, "GET", base(other)+strings.Replace(r.path, "/events", "/poll", 1)+"&role="+r.role+"&lastEventId="+r.LastEventID())
			var a pollAnswer
			if err := json.Unmarshal([]byte(body), &a); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, ev := range a.Events {
				got = append(got, ev.Data)
			}
			if !slices.Equal(got, want(r.role)) {
				t.Errorf("%q %s polls: got %s, want %s", r.role, r.path, got, want(r.role))
			}
		}
		for _, role := range roles {
			gets(open(t, other, "/events?channel=a&initial=5&role="+role), role, "initial")
		}
	})
}

// It is the same for a channel that a live stream has taken.
func TestCriteriaAfterSubscribe(t *testing.T) {
	t.Parallel()
	u, a, b := pairOpen(t, nil)
	admin, user := open(t, a, "/events?channel=x&clientId=me&role=admin"), open(t, b, "/events?channel=x&clientId=me&role=user")
	changes(t, a, "subscribe", "me", "a", 2)
	forRole := conditional(u, "1", "a")
	for role, s := range map[string]*sseclient.Stream{"admin": admin, "user": user} {
		wantChanged(t, s, "subscribed", "me", "a")
		for _, data := range forRole(role) {
			want(t, s, "e", data)
		}
	}
}

// A client that cannot keep up gets no more than others do.
func TestCriteriaOfASlowClient(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=a&role=user")
	settle(t, n)
	pad := strings.Repeat("x", 64<<10)
	for i := range 100 { // more than sockets hold
		u.publish("a", told(fmt.Sprint("secret ", i, pad), `{"role":"admin"}`))
		u.publish("a", told(fmt.Sprint(i, " ", pad), `{"role":"user"}`))
	}
	for i := range 100 {
		if ev := next(t, s); !strings.HasPrefix(ev.Data, fmt.Sprintf(`"%d `, i)) {
			t.Fatalf("got %s, want %d", short(ev.Data), i)
		}
	}
}

// Criteria that cannot be read reach nobody; they are not in what anybody gets.
func TestBadCriteria(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, nil)
	s := open(t, n, "/events?channel=a&role=admin")
	bad := []string{`null`, `[]`, `"admin"`, `{"role":null}`, `{"role":{"eq":"admin"}}`}
	for _, criteria := range bad {
		u.publish("a", told("bad", criteria))
	}
	u.publish("a", `{"message":"hi","criteria":{"role":"user"}}`)
	u.publish("a", `{"message":"hello","criteria":{"role":"admin"}}`)
	want(t, s, "", `"hello"`)
	if got := n.stats.dropped[badCriteria].Load(); got != uint64(len(bad)) {
		t.Errorf("%d counted, want %d", got, len(bad))
	}
}

// Attributes are of the token where there is one, whatever the query says.
func TestCriteriaAreOfTheToken(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) { c.SSENode.JWT.Secret = auth.NewSecret(testSecret) })
	s := open(t, n, "/events?channel=a&role=admin&token="+hs(t, "channels", []string{"a"}, "role", []string{"user", "tester"}))
	u.publish("a", told("no", `{"role":"admin"}`))
	u.publish("a", told("yes", `{"role":"tester"}`))
	want(t, s, "e", `"yes"`)
}
