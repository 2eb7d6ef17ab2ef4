package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"
)

// The client registry: who is connected, where, since when, whichever node is asked;
// gone when the connection is, and when its node is.
func TestAppClientRegistry(t *testing.T) {
	t.Parallel()
	const key = "the-key-of-some-service"
	began := time.Now().Truncate(time.Second)
	a := newApps(t, "SSENODE_API_KEYS="+key)
	ask := func(node int, path string, into any) int {
		t.Helper()
		code, body := request(t, plainClient, http.MethodGet, a.url(node)+path, "", "Authorization: Bearer "+key)
		if into != nil && code == http.StatusOK {
			if err := json.Unmarshal([]byte(body), into); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
		}
		return code
	}
	type connection struct {
		Node, PodName, RegisteredAt, Status string
		Channels, Patterns                  []string
	}
	// where tells on which nodes a client is.
	where := func(node int, client string) (nodes []string) {
		t.Helper()
		var answer struct {
			ClientID    string
			Connections []connection
		}
		switch code := ask(node, "/clients/"+client, &answer); {
		case code == http.StatusNotFound:
			return nil
		case code == http.StatusServiceUnavailable: // a node has not answered
			return []string{"unknown"}
		case code != http.StatusOK || answer.ClientID != client:
			t.Fatalf("%d %+v", code, answer)
		}
		for _, c := range answer.Connections {
			at, err := time.Parse(time.RFC3339, c.RegisteredAt)
			if err != nil || at.Before(began) || at.After(time.Now()) || c.PodName != c.Node || c.Status != "connected" && c.Status != "behind" {
				t.Errorf("%+v: %v", c, err)
			}
			nodes = append(nodes, c.Node)
		}
		slices.Sort(nodes)
		return nodes
	}
	// count tells how many are on a channel, and which.
	count := func(node int, channel string) string {
		t.Helper()
		var answer struct {
			Count   int
			Clients []struct{ ClientID, Node string }
		}
		if code := ask(node, "/presence?channel="+channel, &answer); code != http.StatusOK {
			t.Fatalf("presence: %d", code)
		}
		var who []string
		for _, c := range answer.Clients {
			who = append(who, c.ClientID+"@"+c.Node)
		}
		slices.Sort(who)
		return fmt.Sprint(answer.Count, " ", who)
	}
	both := func(what string, ok func(node int) bool) {
		t.Helper()
		for node := range a.nodes {
			until(t, what, func() bool { return ok(node) })
		}
	}
	first := a.source(0, "/events?channel=room&clientId=anna")
	a.source(1, "/events?channel=room&clientId=anna")
	a.source(1, "/events?channel=room&channel=hall&clientId=bob")
	a.source(0, "/events?pattern=lobby:*&channel=hall&clientId=carol")
	both("all are there", func(node int) bool {
		return fmt.Sprint(where(node, "anna"), where(node, "bob"), where(node, "nobody")) == "[n1 n2] [n2] []" &&
			count(node, "room") == "3 [anna@n1 anna@n2 bob@n2]" && count(node, "hall") == "2 [bob@n2 carol@n1]" && count(node, "attic") == "0 []"
	})
	first.Close()
	both("one is gone with its connection", func(node int) bool {
		return fmt.Sprint(where(node, "anna")) == "[n2]" && count(node, "room") == "2 [anna@n2 bob@n2]"
	})
	_ = a.nodes[1].cmd.Process.Kill()
	<-a.nodes[1].done
	until(t, "all are gone with their node", func() bool {
		return where(0, "anna") == nil && where(0, "bob") == nil && count(0, "room") == "0 []" && count(0, "hall") == "1 [carol@n1]"
	})
}
