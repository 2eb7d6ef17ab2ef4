package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sluice/shared/embedded"
)

// With the programs as they are: a token is renewed at a node that has none of its
// streams, and revoked by the command, for which there was no bucket before.
func TestTokensOnAllNodes(t *testing.T) {
	t.Parallel()
	const secret = "a secret that nobody guesses so soon"
	s := newSite(t, embedded.NATSProcessOptions{}, 2, "SSENODE_JWT_SECRET="+secret)
	token := func(sub string, lasts time.Duration) string {
		now := time.Now()
		text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"sub": sub, "iat": now.Unix(), "exp": now.Add(lasts).Unix(), "channels": []string{"x"},
		}).SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for i := range s.nodes {
		until(t, "the nodes know each other", func() bool { return s.nodes[i].metric("sluice_ssenode_control_nodes") == 2 })
	}
	old := token("anna", time.Hour)
	anna := s.open(0, "/events?channel=x&clientId=anna&token="+old)
	eve := s.open(1, "/events?channel=x&clientId=eve&token="+token("eve", time.Hour))
	body, err := json.Marshal(map[string]string{"clientId": "anna", "token": token("anna", 2*time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := plainClient.Post(s.url(1)+"/refresh", "application/json", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Success     bool
		Connections int
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || !answer.Success || answer.Connections != 1 {
		t.Errorf("refresh: %d %+v, %v", resp.StatusCode, answer, err)
	}
	begun := time.Now()
	if out := runPublisher(t, s, "", "revoke", "-sub", "anna", "-for", "1h"); !strings.Contains(out, `"anna"`) {
		t.Errorf("revoke says %q", out)
	}
	if ev, err := anna.NextData(wait); err == nil {
		t.Errorf("after that: %+v", ev)
	}
	t.Logf("closed %s after the command began", time.Since(begun).Round(time.Millisecond))
	until(t, "it is counted", func() bool {
		return s.nodes[0].metrics()[`sluice_ssenode_closes_total{reason="revoked"}`] == 1
	})
	poll := func(node int, token string) (int, string) {
		return fetch(t, s.url(node)+"/poll?channel=x&timeout=0&token="+token)
	}
	for i := range s.nodes {
		until(t, "it is refused", func() bool {
			code, body := poll(i, old)
			return code == http.StatusUnauthorized && strings.Contains(body, `"revoked"`)
		})
	}
	s.publish("x", "on")
	want(t, eve, "", "on")
	until(t, "one that was issued a second later counts", func() bool {
		code, _ := poll(0, token("anna", time.Hour))
		return code == http.StatusOK
	})
}
