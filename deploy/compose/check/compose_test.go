package check

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
)

// The services of the compose file, started as processes with its environment, its
// commands, its files and its health checks, are an installation that works.
func TestCompose(t *testing.T) {
	embedded.NeedLinux(t, "processes end with their parent")
	s := newStack(t)
	on := s.events()
	on = s.resume(on)
	s.bridgeDies(on)
	s.readme()
	s.brought()
	s.strangers()
	s.memory()
	s.replicas()
	s.scraped()
	s.ends(on)
}

const channel = "public:stage"

// What is posted comes out on each node, through the balancer, in order.
func (s *stack) events() map[string]*sseclient.Stream {
	on := s.listen(channel, "")
	for i := range 20 {
		s.publish(channel, fmt.Sprint("first ", i))
	}
	for i := range 20 {
		s.each(on, fmt.Sprint("first ", i))
	}
	return on
}

// each expects an event on all streams, and tells whether it has an id on all of them.
func (s *stack) each(on map[string]*sseclient.Stream, data string) (ids bool) {
	s.t.Helper()
	ids = true
	for node, st := range on {
		ev, err := st.NextData(wait)
		if err != nil || ev.Name != "" || ev.Data != data {
			s.t.Fatalf("%s: got %+v, %v, want %q", node, ev, err, data)
		}
		ids = ids && ev.HasID
	}
	return ids
}

// Who comes back, to any node, gets what was published meanwhile and nothing else.
func (s *stack) resume(on map[string]*sseclient.Stream) map[string]*sseclient.Stream {
	// What came without an id, while a node made sure that it has everything, would come
	// again.
	var last int
	embedded.EventuallyEvery(s.t, "an event comes with its id", wait, 100*time.Millisecond, func() bool {
		last++
		s.publish(channel, fmt.Sprint("last ", last))
		return s.each(on, fmt.Sprint("last ", last))
	})
	var ids []string
	for _, st := range on {
		ids = append(ids, st.LastEventID())
		st.Close()
	}
	for i := range 5 {
		s.publish(channel, fmt.Sprint("away ", i))
	}
	on = s.listen(channel, ids[0])
	for i := range 5 {
		s.each(on, fmt.Sprint("away ", i))
	}
	return on
}

// The leading bridge is killed while events come, and no client notices. It is started
// again, as "restart" says, and is the other one's standby.
func (s *stack) bridgeDies(on map[string]*sseclient.Stream) {
	is := func(u *container, what string) bool {
		said, err := u.healthy(s.t.Context())
		return err == nil && said == what
	}
	leader, standby := s.of["bridge1"], s.of["bridge2"]
	embedded.EventuallyEvery(s.t, "one bridge leads, one is a hot standby", wait, 100*time.Millisecond, func() bool {
		if is(leader, "hot standby") {
			leader, standby = standby, leader
		}
		return is(leader, "leader") && is(standby, "hot standby")
	})
	var published atomic.Int64
	end, wrote := make(chan struct{}), sync.WaitGroup{}
	// However this ends: a goroutine must not outlive its test.
	stop := sync.OnceFunc(func() { close(end); wrote.Wait() })
	defer stop()
	wrote.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
				s.publish(channel, fmt.Sprint("while ", published.Load()))
				published.Add(1)
			}
		}
	})
	flow := func(what string) {
		s.t.Helper()
		before := published.Load()
		embedded.Eventually(s.t, what, wait, func() bool { return published.Load() >= before+20 })
	}
	flow("events flow before the bridge is killed")
	if err := leader.kill(); err != nil {
		s.t.Fatal(err)
	}
	embedded.EventuallyEvery(s.t, "the other bridge leads", wait, 100*time.Millisecond, func() bool { return is(standby, "leader") })
	flow("events flow through the other bridge")
	stop()
	for i := range published.Load() {
		s.each(on, fmt.Sprint("while ", i)) // a gap would be an event
	}
	s.t.Logf("%d events while %s died", published.Load(), leader.service.Name)
	if err := leader.start(); err != nil {
		s.t.Fatal(err)
	}
	embedded.EventuallyEvery(s.t, "the bridge that died stands by", wait, 100*time.Millisecond, func() bool { return is(leader, "hot standby") })
}

// The README's commands do what it says.
func (s *stack) readme() {
	embedded.NeedProgram(s.t, "curl")
	text, err := os.ReadFile("../README.md")
	if err != nil {
		s.t.Fatal(err)
	}
	var commands []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "curl ") {
			commands = append(commands, strings.ReplaceAll(line, "https://localhost:8443", strings.Replace(s.url(""), "127.0.0.1", "localhost", 1)))
		}
	}
	if len(commands) != 2 {
		s.t.Fatalf("want one curl that listens and one that publishes, got %q", commands)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), wait)
	defer cancel()
	run := func(command string) (*exec.Cmd, *bufio.Reader) {
		cmd := exec.CommandContext(ctx, "sh", "-c", ". ./.env\nexec "+command)
		cmd.Dir = s.project.WorkingDir
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			s.t.Fatal(err)
		}
		return cmd, bufio.NewReader(out)
	}
	listening, heard := run(commands[0])
	defer func() { _ = listening.Process.Kill(); _ = listening.Wait() }()
	expect := func(what string, said *bufio.Reader) {
		s.t.Helper()
		for {
			line, err := said.ReadString('\n')
			if strings.Contains(line, what) {
				return
			}
			if err != nil {
				s.t.Fatalf("nothing has %q, only %q, %v", what, line, err)
			}
		}
	}
	expect("event: connected", heard)
	publishing, answer := run(commands[1])
	expect(`{"success":true`, answer)
	_ = publishing.Wait()
	expect("data: hello", heard)
}

// Who has signed in is on the channel for all and on its client's own without asking.
func (s *stack) brought() {
	s.t.Helper()
	claims := jwt.MapClaims{"sub": "anna", "exp": jwt.NewNumericDate(time.Now().Add(time.Hour))}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(s.env["SSENODE_JWT_SECRET"]))
	if err != nil {
		s.t.Fatal(err)
	}
	st, err := sseclient.Open(s.t.Context(), s.url("/events?clientId=anna"), sseclient.Options{Client: s.client, Header: http.Header{"Authorization": {"Bearer " + token}}})
	if err != nil {
		s.t.Fatal(err)
	}
	defer st.Close()
	if ev, err := st.NextData(wait); err != nil || ev.Name != "connected" || !strings.Contains(ev.Data, `"channels":["sse:broadcast","sse:channel:anna"]`) {
		s.t.Fatalf("first event %+v, %v", ev, err)
	}
	for path, body := range map[string]string{"/notify": `{"clientId":"anna","event":"e","data":"own"}`, "/broadcast": `{"event":"e","data":"all"}`} {
		if code, text := s.request(http.MethodPost, path, body, s.env["PUBLISHER_API_KEYS"]); code != http.StatusOK {
			s.t.Fatalf("%s: %d %s", path, code, text)
		}
		if ev, err := st.NextData(wait); err != nil || ev.Name != "e" || !strings.Contains(body, ev.Data) {
			s.t.Fatalf("%s: got %+v, %v", path, ev, err)
		}
	}
}

// The stream is on all three NATS servers.
func (s *stack) replicas() {
	nc, err := nats.Connect("nats://operator:"+s.env["NATS_OPERATOR_PASSWORD"]+"@"+s.place.addr("nats2", "4222"), nats.CustomInboxPrefix("_INBOX.operator"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), wait)
	defer cancel()
	stream, err := js.Stream(ctx, "SLUICE")
	if err != nil {
		s.t.Fatal(err)
	}
	info := stream.CachedInfo()
	if info.Config.Storage != jetstream.FileStorage || info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != 2 {
		s.t.Errorf("storage %v, cluster %+v", info.Config.Storage, info.Cluster)
	}
}

// Prometheus reaches every program, and has the alerts.
func (s *stack) scraped() {
	var targets struct {
		Data struct {
			Active []struct {
				Health, ScrapeURL, LastError string
				Labels                       map[string]string
			} `json:"activeTargets"`
		}
	}
	defer func() {
		if s.t.Failed() {
			s.t.Logf("targets: %+v", targets)
		}
	}()
	embedded.EventuallyEvery(s.t, "all targets are up", wait, 250*time.Millisecond, func() bool {
		if err := s.get("prometheus", "9090", "/api/v1/targets", &targets); err != nil {
			return false
		}
		up := 0
		for _, a := range targets.Data.Active {
			if a.Health == "up" {
				up++
			}
		}
		return up == 6 && len(targets.Data.Active) == 6
	})
	var rules struct {
		Data struct{ Groups []struct{ Rules []any } }
	}
	if err := s.get("prometheus", "9090", "/api/v1/rules", &rules); err != nil || len(rules.Data.Groups) == 0 {
		s.t.Errorf("rules: %+v, %v", rules, err)
	}
}

// Ours keep no file open, were refused nothing, and end in the time that they are given.
func (s *stack) ends(on map[string]*sseclient.Stream) {
	for _, name := range []string{"nats1", "nats2", "nats3"} {
		for line := range strings.Lines(s.of[name].log.String()) {
			if strings.Contains(line, "Violation") {
				s.t.Errorf("%s: %s", name, line)
			}
		}
	}
	for _, st := range on {
		st.Close()
	}
	var all sync.WaitGroup
	for _, name := range slices.Sorted(maps.Keys(s.of)) {
		u := s.of[name]
		if cmd, _ := u.Running(); cmd == nil {
			s.t.Errorf("%s has ended", name)
			continue
		}
		if target(&u.service) == "" {
			continue
		}
		if files := u.files(s.t); len(files) > 0 {
			s.t.Errorf("%s has files open: %q", name, files)
		}
		all.Go(func() {
			if err := u.stop(); err != nil {
				s.t.Errorf("%s: %v", name, err)
			}
		})
	}
	all.Wait()
}
