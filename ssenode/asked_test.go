package ssenode

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"sluice/shared/control"
	"sluice/shared/embedded"
)

// asked is what a request was answered: of a stream, the connected event.
type asked struct {
	status int
	header http.Header
	body   string
}

// fetch sends a request with header lines `Name: value`, each as it is.
func fetch(t testing.TB, method, url, body string, lines ...string) asked {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header[name] = append(req.Header[name], value)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a := asked{status: resp.StatusCode, header: resp.Header}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") || resp.ContentLength >= 0 {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		a.body = string(body)
		return a
	}
	r := bufio.NewReader(resp.Body)
	for !strings.HasPrefix(a.body, "data: ") {
		if a.body, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// whole asks again while nodes have not answered each other in time: they have half a
// second, and a busy machine may need more.
func whole(t testing.TB, f func() asked) (a asked) {
	t.Helper()
	until(t, "all nodes answer in time", func() bool {
		a = f()
		return !strings.Contains(a.body, `"complete":false`) && !strings.Contains(a.body, errIncomplete.Error()) && !strings.Contains(a.body, errUnknownPlace.Error())
	})
	return a
}

// ask sends a GET, with header lines, and wants to know what all nodes say.
func ask(t testing.TB, n *Node, path string, lines ...string) asked {
	t.Helper()
	return whole(t, func() asked { return fetch(t, http.MethodGet, base(n)+path, "", lines...) })
}

// post is ask for a POST.
func post(t testing.TB, n *Node, path, body string, lines ...string) asked {
	t.Helper()
	return whole(t, func() asked { return fetch(t, http.MethodPost, base(n)+path, body, lines...) })
}

// debugged is ask for a node's admin port; it decodes the answer.
func debugged(t testing.TB, n *Node, path string, status int, into any, lines ...string) string {
	t.Helper()
	a := whole(t, func() asked { return fetchDebug(t, n, path, lines...) })
	if a.status != status || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s: %+v, want %d", path, a, status)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(a.body), into); err != nil {
			t.Fatalf("%s: %v", a.body, err)
		}
	}
	return a.body
}

func fetchDebug(t testing.TB, n *Node, path string, lines ...string) asked {
	t.Helper()
	return fetch(t, http.MethodGet, "http://"+n.AdminAddr().String()+path, "", lines...)
}

// outsider asks nodes, and is none. It knows so many.
func outsider(t testing.TB, u *upstream, nodes int) *control.Asker {
	t.Helper()
	a, err := control.New(u.nc, u.names, nil)
	if err != nil {
		t.Fatal(err)
	}
	embedded.TestRun(t, func(ctx context.Context) error { a.Run(ctx); return nil })
	until(t, "it knows the nodes", func() bool { n, known := a.Nodes(); return n == nodes && known })
	return a
}
