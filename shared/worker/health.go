package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// questions are the arguments by which a program asks another process of its kind, and
// where they ask.
var questions = map[string]string{"health": "/healthz", "ready": "/readyz"}

// askTimeout bounds a question. Who is slower than that is not well.
const askTimeout = 3 * time.Second

// ask puts the question to the worker that listens on ADMIN_ADDR, and prints what it
// says. It is for health checks in an image that has nothing but the program: no shell,
// no curl. The exit code is 0 or 1, never ExitSettings: Docker reserves 2.
func (s Spec[C]) ask(ctx context.Context, question string, stdout, stderr io.Writer) int {
	answer, err := askAdmin(ctx, adminAddr[C](), questions[question])
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", s.Name, err)
		return ExitFailed
	}
	fmt.Fprint(stdout, answer)
	return ExitOK
}

// adminAddr is ADMIN_ADDR or its default. The other settings are not looked at: they may
// name files, and the worker itself has said by now what is wrong with them.
func adminAddr[C any]() string {
	const key = "ADMIN_ADDR"
	addr, set := os.LookupEnv(key)
	for _, one := range Settings[C]() {
		if one.Key == key && !set {
			addr = one.Default
		}
	}
	return addr
}

// askAdmin returns what is answered there, or why it is not 200. An address without a
// host, or with 0.0.0.0, is this machine's, as in net.Dial.
func askAdmin(ctx context.Context, addr, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return "", fmt.Errorf("ADMIN_ADDR=%q: %w", addr, err)
	}
	// A transport of its own: no proxy of the environment stands between.
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("nobody answers on ADMIN_ADDR=%q: %w", addr, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(string(text))
	}
	return string(text), nil
}
