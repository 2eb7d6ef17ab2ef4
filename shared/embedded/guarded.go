package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// GuardedNATS is a NATS server whose users may do only what a configuration file
// says, and which notes what they tried beyond that.
type GuardedNATS struct {
	*NATS
	refused *refusals
}

// Right is one subject that a user may publish to or subscribe.
type Right struct {
	User    string
	Publish bool // else subscribe
	Subject string
}

func (r Right) String() string {
	if r.Publish {
		return "publish " + r.Subject
	}
	return "subscribe " + r.Subject
}

var password = regexp.MustCompile(`\$SLUICE_[A-Z]+_PASSWORD`)

// readRights parses the accounts and users of a file, each with the password "pw".
func readRights(file string) (*server.Options, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	o := &server.Options{}
	if err := o.ProcessConfigString(password.ReplaceAllString(string(text), "pw")); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return o, nil
}

// Rights lists what a user of the file may do.
func Rights(tb testing.TB, file, user string) (list []Right) {
	tb.Helper()
	o, err := readRights(file)
	must(tb, err)
	for _, u := range o.Users {
		if u.Username != user {
			continue
		}
		for _, s := range u.Permissions.Publish.Allow {
			list = append(list, Right{user, true, s})
		}
		for _, s := range u.Permissions.Subscribe.Allow {
			list = append(list, Right{user, false, s})
		}
	}
	if len(list) == 0 {
		tb.Fatalf("%s: no user %q with rights", file, user)
	}
	return list
}

// TestGuardedNATS starts a server with the users of the file, less one right if
// without is not nil, and a user "test" who may do anything in the first one's
// account.
func TestGuardedNATS(tb testing.TB, file string, without *Right) *GuardedNATS {
	tb.Helper()
	g := &GuardedNATS{refused: &refusals{}}
	g.NATS = TestNATSWith(tb, NATSOptions{Log: slog.New(g.refused), Modify: func(o *server.Options) {
		parsed, err := readRights(file)
		must(tb, err)
		for _, u := range parsed.Users {
			if without != nil && u.Username == without.User {
				p := u.Permissions.Subscribe
				if without.Publish {
					p = u.Permissions.Publish
				}
				p.Allow = slices.DeleteFunc(p.Allow, func(s string) bool { return s == without.Subject })
			}
		}
		o.Accounts, o.Users, o.SystemAccount = parsed.Accounts, parsed.Users, parsed.SystemAccount
		o.Users = append(o.Users, &server.User{Username: "test", Password: "pw", Account: o.Users[0].Account})
	}})
	return g
}

// As is the server's URL for one of its users.
func (g *GuardedNATS) As(user string) string { return "nats://" + user + ":pw@" + g.Addr() }

// Refused lists what users tried and may not, in the server's words.
func (g *GuardedNATS) Refused() []string {
	g.refused.mu.Lock()
	defer g.refused.mu.Unlock()
	return slices.Clone(g.refused.list)
}

// refusals are the lines of a server's log that are about missing rights.
type refusals struct {
	mu   sync.Mutex // guards list
	list []string
}

func (r *refusals) Enabled(context.Context, slog.Level) bool { return true }
func (r *refusals) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *refusals) WithGroup(string) slog.Handler            { return r }

func (r *refusals) Handle(_ context.Context, line slog.Record) error {
	line.Attrs(func(a slog.Attr) bool {
		if text := a.Value.String(); strings.Contains(text, "Violation") {
			r.mu.Lock()
			r.list = append(r.list, text)
			r.mu.Unlock()
		}
		return true
	})
	return nil
}
