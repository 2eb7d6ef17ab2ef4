package observability

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/shared/embedded"
)

// numbers are what a program says at /metrics: by name and labels, its own alone.
func numbers(t *testing.T, admin net.Addr) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for line := range strings.Lines(page(t, admin)) {
		series, value, found := strings.Cut(strings.TrimSpace(line), " ")
		if !found || !strings.HasPrefix(series, "sluice_") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all[series] = v
	}
	return all
}

func page(t *testing.T, admin net.Addr) string {
	t.Helper()
	resp, err := http.Get("http://" + admin.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// raw is a stream as it comes, byte by byte.
type raw struct {
	t    *testing.T
	body io.ReadCloser
	text []byte
}

// listen opens a stream of the channel c.
func (in *installation) listen(t *testing.T, id string) *raw {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+in.node.Addr().String()+"/events?channel=c", nil)
	if err != nil {
		t.Fatal(err)
	}
	if id != "" {
		req.Header.Set("Last-Event-ID", id)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &raw{t: t, body: resp.Body}
}

// until reads up to a text, and returns the last id before it.
func (r *raw) until(text string) (id string) {
	r.t.Helper()
	for b := make([]byte, 4096); !bytes.Contains(r.text, []byte(text)); {
		n, err := r.body.Read(b)
		if r.text = append(r.text, b[:n]...); err != nil {
			r.t.Fatalf("no %q in %q: %v", text, r.text, err)
		}
	}
	before, _, _ := strings.Cut(string(r.text), text)
	if i := strings.LastIndex(before, "id: "); i >= 0 {
		id, _, _ = strings.Cut(before[i+len("id: "):], "\n")
	}
	return id
}

// What is counted is what has happened: three messages of five bytes on their way from the
// publisher to a client that goes and comes back, in every program; and a bridge that ends.
func TestMetrics(t *testing.T) {
	in := install(t)
	for name, list := range in.admin {
		lint := exec.CommandContext(t.Context(), embedded.NeedProgram(t, "promtool"), "check", "metrics")
		lint.Stdin = strings.NewReader(page(t, list[0]))
		if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	leader := 0
	is := func(bridge int, gauge string) bool {
		return numbers(t, in.admin["bridge"][bridge])["sluice_bridge_"+gauge] == 1
	}
	embedded.Eventually(t, "one leads, one stands by", wait, func() bool {
		if is(1, "leading") {
			leader = 1
		}
		return is(leader, "leading") && is(1-leader, "standby_hot")
	})
	places := map[string]net.Addr{
		"publisher": in.admin["publisher"][0], "ssenode": in.admin["ssenode"][0],
		"leader": in.admin["bridge"][leader], "standby": in.admin["bridge"][1-leader],
	}
	before := map[string]map[string]float64{}
	for place, addr := range places {
		before[place] = numbers(t, addr)
	}
	post := func(payload string) {
		t.Helper()
		resp, err := http.Post("http://"+in.post.Addr().String()+"/publish/c", "text/plain", strings.NewReader(payload))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}
	first := in.listen(t, "")
	first.until("\nid: ") // a position: from here on the node has all
	post("first")
	id := first.until("data: first")
	first.body.Close()
	embedded.Eventually(t, "it has left", wait, func() bool { return numbers(t, places["ssenode"])["sluice_ssenode_connections"] == 0 })
	post("other")
	post("third")
	second := in.listen(t, id)
	second.until("data: third\n\n")

	// What moved, and by how much. Bytes written to a stream are at least those read of it.
	want := map[string]map[string]float64{
		"publisher": {`requests_total{endpoint="/publish/{channel}"}`: 3, `requests_total{endpoint="/publish"}`: 0, "published_total": 3, "published_bytes_total": 15, "request_seconds_count": 3},
		"leader":    {"received_total": 3, "received_bytes_total": 15, "stored_total": 3, "stored_bytes_total": 15, "live_total": 0, `dropped_total{reason="queue-full"}`: 0, "gap_marks_total": 0},
		"standby":   {"received_total": 3, "received_bytes_total": 15, "stored_total": 0, "stored_bytes_total": 0, `takeovers_total{kind="planned"}`: 0},
		"ssenode": {"connects_total": 2, "connections": 1, "limited_connections": 1, "watched_channels": 1, "nats_subscriptions": 1,
			`closes_total{reason="client-gone"}`: 1, `closes_total{reason="drain"}`: 0, `messages_in_total{kind="event"}`: 3, "events_out_total": 3,
			`catch_up_reads_total{source="ring"}`: 1, `gaps_total{reason="unknown-id"}`: 0, `limited_total{reason="node"}`: 0},
	}
	worker := map[string]string{"publisher": "publisher", "leader": "bridge", "standby": "bridge", "ssenode": "ssenode"}
	for _, place := range slices.Sorted(maps.Keys(want)) {
		var wrong []string
		defer func() {
			if t.Failed() && len(wrong) > 0 {
				t.Errorf("%s: %s", place, strings.Join(wrong, ", "))
			}
		}()
		embedded.EventuallyEvery(t, place+" has counted", wait, 50*time.Millisecond, func() bool {
			wrong = nil
			now := numbers(t, places[place])
			for _, name := range slices.Sorted(maps.Keys(want[place])) {
				series := "sluice_" + worker[place] + "_" + name
				if _, found := now[series]; !found {
					t.Fatalf("%s has no %s", place, series)
				}
				if got := now[series] - before[place][series]; got != want[place][name] {
					wrong = append(wrong, fmt.Sprintf("%s is %v, want %v", name, got, want[place][name]))
				}
			}
			return len(wrong) == 0
		})
	}
	node := numbers(t, places["ssenode"])
	if in, out := node["sluice_ssenode_bytes_in_total"]-before["ssenode"]["sluice_ssenode_bytes_in_total"], node["sluice_ssenode_bytes_out_total"]; in < 15 || int(out) < len(first.text)+len(second.text) {
		t.Errorf("%v bytes in, %v out, of which %d were read: %q %q", in, out, len(first.text)+len(second.text), first.text, second.text)
	}

	in.stop[leader]()
	standby := places["standby"]
	embedded.Eventually(t, "the other one leads", wait, func() bool {
		now := numbers(t, standby)
		return now["sluice_bridge_leading"] == 1 && now[`sluice_bridge_takeovers_total{kind="planned"}`] == 1 && now["sluice_bridge_takeover_seconds_count"] == 1
	})
	if now := numbers(t, standby); now["sluice_bridge_standby_hot"] != 0 || now["sluice_bridge_gap_marks_total"] != 0 {
		t.Errorf("after a planned stop: hot %v, %v gap marks", now["sluice_bridge_standby_hot"], now["sluice_bridge_gap_marks_total"])
	}
}
