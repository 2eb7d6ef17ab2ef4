package ssenode

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
)

// The client for pages: every page that may connect may import it, and loads it
// again only when it has changed.
func TestScript(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	n := startNode(t, u, func(c *Config) {
		if err := c.SSENode.Origins.Decode("https://a.example"); err != nil {
			t.Fatal(err)
		}
	})
	client := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	get := func(method, path string, header ...string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(method, base(n)+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		r := io.Reader(resp.Body)
		if resp.Header.Get("Content-Encoding") == "gzip" && method == http.MethodGet {
			if r, err = gzip.NewReader(r); err != nil {
				t.Fatal(err)
			}
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	for path, word := range map[string]string{
		"/sluice.js": "export class Sluice", "/sluice-tabs.js": "export async function join", "/sluice-react.js": "export function useSluice",
		"/sluice.d.ts": "export class Sluice", "/sluice-react.d.ts": "useSluice",
	} {
		kind := "text/javascript; charset=utf-8"
		if strings.HasSuffix(path, ".ts") {
			kind = "text/plain; charset=utf-8"
		}
		tags := map[string]bool{}
		for _, encoding := range []string{"", "gzip"} {
			resp, body := get("GET", path, "Accept-Encoding", encoding, "Origin", "https://a.example")
			h := resp.Header
			tag := h.Get("ETag")
			tags[tag] = true
			if resp.StatusCode != 200 || h.Get("Content-Type") != kind || h.Get("Content-Encoding") != encoding || !strings.Contains(body, word) {
				t.Errorf("%s %q: %d %v", path, encoding, resp.StatusCode, h)
			}
			if h.Get("Access-Control-Allow-Origin") != "https://a.example" || strings.Join(h.Values("Vary"), ", ") != "Origin, Accept-Encoding" ||
				h.Get("Cache-Control") != "public, max-age=300" || h.Get("Cross-Origin-Resource-Policy") != "cross-origin" {
				t.Errorf("%s %q: %v", path, encoding, h)
			}
			for _, known := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
				resp, body := get("GET", path, "Accept-Encoding", encoding, "If-None-Match", known)
				if resp.StatusCode != 304 || body != "" || resp.Header.Get("ETag") != tag {
					t.Errorf("%s with %s: %d, %d bytes, %v", path, known, resp.StatusCode, len(body), resp.Header)
				}
			}
			if resp, _ := get("GET", path, "Accept-Encoding", encoding, "If-None-Match", `"other"`); resp.StatusCode != 200 {
				t.Errorf("%s changed: %d", path, resp.StatusCode)
			}
			head, body := get("HEAD", path, "Accept-Encoding", encoding)
			if head.StatusCode != 200 || body != "" || head.ContentLength != resp.ContentLength || head.Header.Get("ETag") != tag {
				t.Errorf("HEAD %s: %d %v", path, head.StatusCode, head.Header)
			}
		}
		if len(tags) != 2 {
			t.Errorf("%s: tags %v for two encodings", path, tags)
		}
		if resp, _ := get("GET", path, "Origin", "https://evil.example"); resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s for a page that may not connect: %v", path, resp.Header)
		}
		if resp, _ := get("OPTIONS", path, "Origin", "https://a.example"); resp.StatusCode != 204 || !strings.Contains(resp.Header.Get("Access-Control-Allow-Methods"), "GET") {
			t.Errorf("OPTIONS %s: %d %v", path, resp.StatusCode, resp.Header)
		}
		if resp, _ := get("POST", path); resp.StatusCode != 405 {
			t.Errorf("POST %s: %d", path, resp.StatusCode)
		}
	}
}
