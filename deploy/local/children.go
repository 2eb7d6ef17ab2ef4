package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// childName is the variable with a child's name, for its log; childWait, if it is
	// set, how long it waits before it works.
	childName = "LOCAL_CHILD"
	childWait = "LOCAL_CHILD_WAIT"
	// bridges is one that leads and one that stands by.
	bridges = 2
	// publicChannels are for everyone: all that the simulations play but user:…, what
	// has no colon, and what comes by itself.
	publicChannels = "*,race-events:>,leaderboard:>,auction:>,game:>,chat:>,stocks:>,items:>,alerts:>,updates:>,trivia:>,dashboard:>,news:>,jobs:>,sse:>"
	userChannels   = "user:{claim.sub}"
	autoChannels   = "sse:broadcast,sse:channel:{clientId}"
)

// startChildren starts bridges and nodes, all at once. With a secret the nodes take
// tokens that are signed with it.
func (l *local) startChildren(secret string) error {
	for i := range bridges {
		// One after the other: of two that make the stream at once one would complain.
		l.bridges = append(l.bridges, l.child(bridgeKind, fmt.Sprintf("bridge%d", i+1), "REDIS_URL="+l.redisURL,
			childWait+"="+(time.Duration(i)*time.Second).String()))
	}
	for i := range l.cfg.Local.Nodes {
		name := fmt.Sprintf("node%d", i+1)
		env := []string{"SSENODE_NAME=" + name, "SSENODE_AUTO_CHANNELS=" + autoChannels,
			"SSENODE_DRAIN_DELAY=0s", "SSENODE_DRAIN_TIME=0s"} // Ctrl-C ends at once
		if secret != "" {
			env = append(env, "SSENODE_JWT_SECRET="+secret, "SSENODE_PUBLIC_CHANNELS="+publicChannels, "SSENODE_USER_CHANNELS="+userChannels)
		}
		l.nodes = append(l.nodes, l.child(nodeKind, name, env...))
	}
	g, ctx := errgroup.WithContext(context.Background())
	for _, c := range l.children() {
		g.Go(func() error { return c.start(ctx) })
	}
	return g.Wait()
}

// child is one that was not started yet. Of this process's environment it gets what a
// Go program needs: settings of workers have no effect here.
func (l *local) child(kind, name string, env ...string) *child {
	env = append(env, childName+"="+name, "NATS_URL="+l.natsURL, "ROUTES="+l.cfg.Routes.String(),
		"LOG_LEVEL="+l.cfg.Log.Level, "LOG_FORMAT="+l.cfg.Log.Format)
	for _, kv := range os.Environ() {
		switch key, _, _ := strings.Cut(kv, "="); key {
		case "PATH", "HOME", "TMPDIR", "GOMAXPROCS", "GOMEMLIMIT", "GODEBUG", "GORACE", "GOTRACEBACK", "SSL_CERT_FILE", "SSL_CERT_DIR":
			env = append(env, kv)
		}
	}
	return &child{name: name, kind: kind, env: env, log: l.log}
}

// children are the bridges and the nodes.
func (l *local) children() []*child {
	return slices.Concat(l.bridges, l.nodes)
}
