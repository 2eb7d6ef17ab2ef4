package bridge

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"

	"sluice/shared/embedded"
)

// A link that falls silent in the middle of a message, and then goes on, is not read
// on: what is left of the message could pose as another one.
func TestCutMessageCannotForge(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	half := "half of it\r\n"
	forged := "*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$6\r\nforged\r\n$4\r\nevil\r\n"
	addr, resume := cutIn(t, r.redis.Addr(), []byte(half))
	b, _ := r.lead(func(c *Config) { c.Redis.URL = "redis://" + addr })
	r.publish("a", half+forged+"the end")
	until(t, "a new link", func() bool { return b.source.links.Load() == 2 && b.source.linked() })
	close(resume)
	r.publish("a", "after")
	r.want("a", "after")
	if n := b.stats.received.Load(); n != 1 {
		t.Errorf("%d messages were taken", n)
	}
	if list := r.marks(); len(list) != 1 {
		t.Errorf("gap marks %+v", list)
	}
}

// cutIn forwards connections to a server. The first time that the server says what,
// nothing that follows is passed on until resume is closed.
func cutIn(t *testing.T, server string, what []byte) (addr string, resume chan struct{}) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	resume = make(chan struct{})
	cut := make(chan struct{}, 1)
	cut <- struct{}{}
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				return
			}
			go func() { _, _ = io.Copy(to, client); to.Close() }()
			go func() {
				defer client.Close()
				b := make([]byte, 64<<10)
				for {
					n, err := to.Read(b)
					if err != nil {
						return
					}
					said := b[:n]
					if i := bytes.Index(said, what); i >= 0 {
						select {
						case <-cut:
							_, _ = client.Write(said[:i+len(what)])
							said = said[i+len(what):]
							<-resume
						default:
						}
					}
					if _, err := client.Write(said); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String(), resume
}

// do runs a command at the rig's Redis.
func (r *rig) do(args ...any) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := r.pub.Do(ctx, args...).Err(); err != nil {
		r.t.Fatal(err)
	}
}

// The rights that are documented suffice. Without that to publish, standbys are cold;
// without that to subscribe, the error says what is needed.
func TestRights(t *testing.T) {
	t.Parallel()
	embedded.NeedProgram(t, "redis-server") // miniredis has no ACL
	r := newRig(t, embedded.NATSOptions{})
	as := func(user string) func(*Config) {
		return func(c *Config) { c.Redis.URL = "redis://" + user + ":pw@" + r.redis.Addr() }
	}
	user := func(name string, rules ...string) {
		args := []any{"ACL", "SETUSER", name, "reset", "on", ">pw"}
		for _, rule := range rules {
			args = append(args, rule)
		}
		r.do(args...)
	}
	all := strings.Fields(Rights)
	user("full", all...)
	user("mute", append(all, "-publish")...)
	user("deaf", append(all, "resetchannels")...)
	user("least", "+psubscribe", "+subscribe", "+publish", "+ping", "&*")

	mute, stop := r.lead(as("mute"))
	standby, _ := r.start(as("full"))
	until(t, "the standby is cold", func() bool { return standby.leader.state.Load().why == errNoPosition })
	if mute.source.server() == "" {
		t.Error("the server's name is not known")
	}
	stop()
	until(t, "the standby leads", standby.leader.leads.Load)
	until(t, "clients are told", func() bool { return len(r.marks()) == 1 })
	least, _ := r.start(as("least"))
	hot(t, least)
	r.publish("a", "1")
	r.want("a", "1")

	log := &embedded.Lines{}
	cfg := r.config(as("deaf"))
	deaf, err := New(cfg, log.Logger(slog.LevelInfo))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = deaf.Run(ctx) }()
	until(t, "the log says what is needed", func() bool {
		return strings.Contains(log.String(), "NOPERM") && strings.Contains(log.String(), Rights)
	})
	if deaf.ready() == nil {
		t.Error("a bridge that may not subscribe is ready")
	}
	until(t, "it was refused again and again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		stats, err := r.pub.Info(ctx, "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(stats, "cmdstat_psubscribe:")
		line, _, _ := strings.Cut(rest, "\n")
		_, count, _ := strings.Cut(strings.TrimSpace(line), "rejected_calls=")
		count, _, _ = strings.Cut(count, ",")
		refused, _ := strconv.Atoi(count)
		return refused > 2
	})
	if n := strings.Count(log.String(), "NOPERM"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	cancel()
	<-done
}
