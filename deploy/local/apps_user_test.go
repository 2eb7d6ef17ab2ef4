package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// userStream is the page's stream of the apps "notifications" and "orders".
const userStream = "/notifications/stream"

// The app "notifications": the channel comes from the signed-in user, wherever the
// page has the token; it is nobody else's; what was missed comes on return.
func TestAppNotifications(t *testing.T) {
	t.Parallel()
	signedIn(t, "notifications", "frank", "grace")
}

// The app "orders": the same, with other data.
func TestAppOrders(t *testing.T) {
	t.Parallel()
	a, one := signedIn(t, "orders", "alice", "bob")
	kinds := map[string]bool{}
	for _, ev := range one.got {
		var data struct{ Type string }
		if err := json.Unmarshal([]byte(ev.data), &data); err != nil {
			t.Fatal(err)
		}
		kinds[data.Type] = true
	}
	if !kinds["order_shipped"] {
		t.Errorf("types %v", kinds)
	}
	a.publish("user:alice", `{"event":"notification","data":{"type":"order_shipped","orderId":"7"}}`)
	want(t, one.Stream, "notification", `{"type":"order_shipped","orderId":"7"}`)
}

// signedIn plays a scenario of user:{userId} to two users.
func signedIn(t *testing.T, scenario, first, second string) (*apps, *eventSource) {
	a := newApps(t, appSignedIn, appUser, "SSENODE_USER_CHANNELS=user:{claim.sub}", "SSENODE_COOKIE=session")
	one := a.safe(0, userStream+"?token="+token(t, first))
	others := []*eventSource{
		a.safe(1, userStream, "Authorization: Bearer "+token(t, second)),
		a.safe(0, userStream, "Cookie: theme=dark; session="+token(t, second)),
		a.safe(1, "/events?channel=user:"+second+"&token="+token(t, second)),
	}
	stop := a.play(2, 300, scenario)
	one.reads(50)
	one.settles()
	one.Close()
	a.goesOn("user:"+first, 20) // it misses these
	one.returns()
	one.reads(50)
	stop()
	one.gets(a.rec.of("user:" + first))
	for _, page := range others {
		page.gets(a.rec.of("user:" + second))
	}
	for _, ev := range one.got {
		if ev.name != "notification" {
			t.Fatalf("%+v", ev)
		}
	}
	// Nobody else's, and nothing for nobody.
	for path, says := range map[string]string{
		userStream: `{"error":"Unauthorized","code":"missing"}`,
		userStream + "?token=" + token(t, first) + "x":                                 `{"error":"Unauthorized","code":"bad_signature"}`,
		"/events?channel=user:" + first + "&token=" + token(t, second):                 `{"error":"Forbidden","channel":"user:` + first + `"}`,
		"/events?pattern=user:*&token=" + token(t, second):                             `{"error":"Forbidden","channel":"user:*"}`,
		"/events?pattern=user:*&channel=user:" + second + "&token=" + token(t, second): `{"error":"Forbidden","channel":"user:*"}`,
	} {
		for node := range a.nodes {
			code, body := fetch(t, a.url(node)+path)
			wantCode := http.StatusUnauthorized
			if strings.Contains(says, "Forbidden") {
				wantCode = http.StatusForbidden
			}
			if code != wantCode || strings.TrimSpace(body) != says {
				t.Errorf("%s: %d %s, want %s", path[:min(30, len(path))], code, body, says)
			}
		}
	}
	return a, one
}
