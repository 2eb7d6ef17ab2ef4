package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"

	"sluice/shared/sseclient"
)

// stack is the set of the compose file, as processes.
type stack struct {
	t       *testing.T
	place   *place
	project *types.Project
	env     map[string]string // .env
	of      map[string]*container
	trusted *x509.CertPool // the balancer's certificate
	client  *http.Client
}

// unavailable is what of the compose file cannot be had as a program.
const unavailable = "grafana"

// newStack starts all services, each when those are as it wants them that it depends on.
func newStack(t *testing.T) *stack {
	t.Helper()
	root := tree(t)
	project, err := Load(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	image, err := readImage(filepath.Join(root, dockerFile))
	if err != nil {
		t.Fatal(err)
	}
	s := &stack{t: t, project: project, place: newPlace(t, project), of: map[string]*container{}}
	if s.env, err = dotenv.Read(filepath.Join(root, composeDir, ".env")); err != nil {
		t.Fatal(err)
	}
	for name, c := range project.Services {
		if name != unavailable {
			s.of[name] = newContainer(t, s.place, c, image)
		}
	}
	s.start()
	ca, err := os.ReadFile(filepath.Join(root, composeDir, "secrets/site.crt"))
	if err != nil {
		t.Fatal(err)
	}
	s.trusted = x509.NewCertPool()
	if !s.trusted.AppendCertsFromPEM(ca) {
		t.Fatal("secrets/site.crt is no certificate")
	}
	s.client = s.browser()
	return s
}

// browser is one, with a connection of its own: TLS, and HTTP/2 only.
func (s *stack) browser() *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.trusted}, Protocols: &http.Protocols{}, DisableCompression: true}
	transport.Protocols.SetHTTP2(true)
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: second{transport}}
}

// second refuses answers that did not come by HTTP/2.
type second struct{ http.RoundTripper }

func (s second) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.RoundTripper.RoundTrip(r)
	if err == nil && resp.ProtoMajor != 2 {
		resp.Body.Close()
		return nil, fmt.Errorf("it came by %s", resp.Proto)
	}
	return resp, err
}

func (s *stack) start() {
	s.t.Helper()
	began := time.Now()
	started, healthy := map[string]chan struct{}{}, map[string]chan struct{}{}
	for name := range s.of {
		started[name], healthy[name] = make(chan struct{}), make(chan struct{})
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), wait)
	defer cancel()
	all, ctx := errgroup.WithContext(ctx)
	for name, u := range s.of {
		all.Go(func() error {
			for on, d := range u.service.DependsOn {
				ready := started[on]
				if d.Condition == types.ServiceConditionHealthy {
					ready = healthy[on]
				}
				select {
				case <-ready:
				case <-ctx.Done():
					return fmt.Errorf("%s waits for %s: %w", name, on, ctx.Err())
				}
			}
			if err := u.start(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			close(started[name])
			if err := u.await(ctx); err != nil {
				return err
			}
			close(healthy[name])
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("all are healthy after %s", time.Since(began).Round(100*time.Millisecond))
}

// url is the balancer's.
func (s *stack) url(path string) string { return "https://" + s.place.addr("balancer", "8443") + path }

// request returns status and body of an answer through the balancer.
func (s *stack) request(method, path, body, key string) (int, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url(path), strings.NewReader(body))
	if err != nil {
		s.t.Error(err) // not Fatal: there are goroutines that publish
		return 0, ""
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Error(err)
	}
	return resp.StatusCode, string(text)
}

// publish posts one payload.
func (s *stack) publish(channel, payload string) {
	s.t.Helper()
	if code, text := s.request(http.MethodPost, "/publish/"+channel, payload, s.env["PUBLISHER_API_KEYS"]); code != http.StatusOK {
		s.t.Errorf("publish %s: %d %s", payload, code, text)
	}
}

// listen opens a stream of one channel on each of the three nodes, as the balancer spreads
// them. With the id of an event they go on behind it.
func (s *stack) listen(channel, id string) map[string]*sseclient.Stream {
	s.t.Helper()
	on := map[string]*sseclient.Stream{}
	for range 30 {
		st, err := sseclient.Open(s.t.Context(), s.url("/events?channel="+channel), sseclient.Options{Client: s.client, LastEventID: id})
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(st.Close)
		ev, err := st.NextData(wait)
		if err != nil || ev.Name != "connected" {
			s.t.Fatalf("first event %+v, %v", ev, err)
		}
		var who struct{ Node string }
		if err := json.Unmarshal([]byte(ev.Data), &who); err != nil {
			s.t.Fatal(err)
		}
		if on[who.Node] != nil {
			continue // kept open: the next one goes elsewhere
		}
		on[who.Node] = st
		for id == "" && st.LastEventID() == "" {
			if ev, err := st.NextWithin(wait); err != nil || ev.HasData {
				s.t.Fatalf("before the first position: %+v, %v", ev, err)
			}
		}
		if on["ssenode1"] != nil && on["ssenode2"] != nil && on["ssenode3"] != nil {
			return on
		}
	}
	s.t.Fatalf("the balancer gives only %d nodes something to do", len(on))
	return nil
}

// get decodes what one of the services says over HTTP.
func (s *stack) get(service, port, path string, into any) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.place.addr(service, port)+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}
