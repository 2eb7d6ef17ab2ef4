package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sluice/shared/origin"
)

const (
	// tokenLife is short so that one sees tokens being replaced: the client gets
	// another one a minute before.
	tokenLife = 2 * time.Minute
	// askBridge bounds the question to a bridge what it is: on a busy machine its answer
	// may take a while, and who does not answer is taken for none that leads.
	askBridge = 2 * time.Second
)

// demo is what the page can do beyond looking: sign in, and break things. Nothing
// of it is in a worker, and nobody has it but pages of this machine.
type demo struct {
	bridges, nodes []*child
	front          *front
	secret         string // "": nobody signs in
	client         *http.Client
}

func newDemo(l *local, secret string) *demo {
	return &demo{bridges: l.bridges, nodes: l.nodes, front: l.front, secret: secret,
		client: &http.Client{Timeout: askBridge, Transport: &http.Transport{DisableKeepAlives: true}}}
}

func (d *demo) serve(mux *http.ServeMux) {
	mux.HandleFunc("GET /demo/workers", d.workers)
	mux.HandleFunc("POST /demo/kill/{name}", own(d.kill))
	mux.HandleFunc("POST /demo/drop", own(d.drop))
	mux.HandleFunc("POST /demo/sign-in", own(d.signIn))
}

// own lets only programs of this machine through, and pages that it serves by a name
// of this machine: another host's page could be made to resolve to 127.0.0.1.
func own(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !isOwn(r) {
			answer(w, http.StatusForbidden, map[string]any{"error": "only for pages of http://localhost, on this machine"})
			return
		}
		next(w, r)
	}
}

func isOwn(r *http.Request) bool {
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !net.ParseIP(from).IsLoopback() {
		return false
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	return (host == "localhost" || net.ParseIP(host).IsLoopback()) && origin.Site{Origin: strings.Join(r.Header.Values("Origin"), ", "), Fetch: r.Header.Get("Sec-Fetch-Site"), Host: r.Host}.Same()
}

// workers tells what runs and who leads.
func (d *demo) workers(w http.ResponseWriter, r *http.Request) {
	var all struct {
		Bridges  []state `json:"bridges"`
		Nodes    []state `json:"nodes"`
		Controls bool    `json:"controls"` // whether who asks may break things
		SignIn   bool    `json:"signIn"`   // whether channels user:… are for who is signed in
	}
	all.Bridges = d.roles(r.Context())
	for _, n := range d.nodes {
		all.Nodes = append(all.Nodes, n.state())
	}
	all.Controls, all.SignIn = isOwn(r), d.secret != ""
	answer(w, http.StatusOK, all)
}

// roles are the bridges with what they say of themselves, asked all at once.
func (d *demo) roles(ctx context.Context) []state {
	list := make([]state, len(d.bridges))
	var wg sync.WaitGroup
	for i, b := range d.bridges {
		wg.Go(func() {
			list[i] = b.state()
			if list[i].Pid != 0 {
				list[i].Role = d.role(ctx, b)
			}
		})
	}
	wg.Wait()
	return list
}

func (d *demo) role(ctx context.Context, b *child) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.hello.Admin+"/readyz", nil)
	if err != nil {
		return ""
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return "" // it has just ended or begun
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// kill kills the named worker, or whichever bridge leads.
func (d *demo) kill(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if name == "leader" {
		for _, b := range d.roles(r.Context()) {
			if b.Role == "leader" {
				name = b.Name
			}
		}
		if name == "leader" {
			answer(w, http.StatusConflict, map[string]any{"error": "no bridge leads just now"})
			return
		}
	}
	for _, c := range slices.Concat(d.bridges, d.nodes) {
		if c.name != name {
			continue
		}
		pid, err := c.kill()
		if err != nil {
			answer(w, http.StatusConflict, map[string]any{"error": err.Error()})
			return
		}
		answer(w, http.StatusOK, map[string]any{"killed": name, "pid": pid})
		return
	}
	answer(w, http.StatusNotFound, map[string]any{"error": fmt.Sprintf("no worker is called %q", name)})
}

// drop cuts all streams, of all pages, where a balancer would.
func (d *demo) drop(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"dropped": d.front.cut()})
}

var userName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// claims are what a token of the page says: who it is, in which role, which criteria of
// events are compared with, and that it may see who is connected.
type claims struct {
	jwt.RegisteredClaims
	Role     string `json:"role,omitempty"`
	Presence bool   `json:"presence"`
}

// signIn gives anybody a token for the name, and the role, that he says: what an
// application does once it has seen a password.
func (d *demo) signIn(w http.ResponseWriter, r *http.Request) {
	token, err := d.token(r.URL.Query().Get("user"), r.URL.Query().Get("role"))
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]any{"error": err.Error()})
		return
	}
	answer(w, http.StatusOK, map[string]any{"token": token})
}

func (d *demo) token(user, role string) (string, error) {
	switch {
	case d.secret == "":
		return "", errors.New("all channels are open: LOCAL_AUTH is off")
	case !userName.MatchString(user):
		return "", errors.New("user: want 1 to 32 of A-Z a-z 0-9 _ -")
	case role != "" && !userName.MatchString(role):
		return "", errors.New("role: want none, or 1 to 32 of A-Z a-z 0-9 _ -")
	}
	now := time.Now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		RegisteredClaims: jwt.RegisteredClaims{Subject: user, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(tokenLife))},
		Role:             role, Presence: true,
	}).SignedString([]byte(d.secret))
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who asked is gone
}
