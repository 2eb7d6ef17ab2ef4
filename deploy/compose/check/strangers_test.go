package check

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Without a login, or with another one's, nobody gets in.
func (s *stack) strangers() {
	if code, text := s.request(http.MethodGet, "/events?channel=orders:1", "", ""); code != http.StatusUnauthorized {
		s.t.Errorf("a channel that is not public, without a token: %d %s", code, text)
	}
	if code, text := s.request(http.MethodPost, "/publish/"+channel, "x", "another-key-another-key-another-key"); code != http.StatusUnauthorized && code != http.StatusForbidden {
		s.t.Errorf("publish with another key: %d %s", code, text)
	}
	for _, name := range []string{"nats1", "nats2", "nats3"} {
		for login, want := range map[string]error{
			"": nats.ErrAuthorization,
			"bridge:" + s.env["NATS_NODE_PASSWORD"] + "@": nats.ErrAuthorization,
			"node:" + s.env["NATS_NODE_PASSWORD"] + "@":   nil,
		} {
			nc, err := nats.Connect("nats://"+login+s.place.addr(name, "4222"), nats.Timeout(wait))
			if err == nil {
				nc.Close()
			}
			if !errors.Is(err, want) {
				s.t.Errorf("%s, login %q: %v, want %v", name, login, err, want)
			}
		}
		const refused = "-ERR 'Authorization Violation'"
		for login, want := range map[string]string{
			"": refused,
			`,"user":"routes","pass":"` + s.env["NATS_NODE_PASSWORD"] + `"`:   refused,
			`,"user":"routes","pass":"` + s.env["NATS_ROUTES_PASSWORD"] + `"`: "PONG",
		} {
			if got := s.route(name, login); got != want {
				s.t.Errorf("%s, another server with %s: %q, want %q", name, login, got, want)
			}
		}
	}
	c, err := net.DialTimeout("tcp", s.place.addr("redis", "6379"), wait)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		s.t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for _, command := range []string{"PUBLISH " + channel + " x", "PSUBSCRIBE *", "CONFIG GET *"} {
		if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
			s.t.Fatal(err)
		}
		if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "-NOPERM") {
			s.t.Errorf("%s without a login: %q, %v", command, line, err)
		}
	}
}

// route is what a NATS server says to another one that introduces itself, before that has
// said anything of itself.
func (s *stack) route(name, login string) string {
	c, err := net.DialTimeout("tcp", s.place.addr(name, "6222"), wait)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, `CONNECT {"name":"stranger","cluster":"sluice"%s}`+"\r\nPING\r\n", login); err != nil {
		s.t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err.Error()
		}
		if strings.HasPrefix(line, "-ERR") || strings.HasPrefix(line, "PONG") {
			return strings.TrimSpace(line)
		}
	}
}
