// Package redisconn opens the connection to Redis that REDIS_URL names, with
// the same time limits in every worker, and waits for Redis with a back-off.
// Nothing it returns or logs contains a password. It answers with a
// redis.UniversalClient, so that Sentinel and Cluster can follow without a
// change to its callers.
package redisconn

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Time limits of one network operation, where the URL does not give others
// (dial_timeout, read_timeout, write_timeout).
const (
	DialTimeout  = 5 * time.Second
	ReadTimeout  = 3 * time.Second
	WriteTimeout = 3 * time.Second
)

// Options say who connects.
type Options struct {
	// Worker names the connections "sluice-<Worker>" in CLIENT LIST, unless the
	// URL has a client_name. Redis allows no spaces in it. Empty: no name.
	Worker string
}

// Open returns a client for a redis://, rediss:// or unix:// URL as go-redis
// reads it: user, password, host, port, database, and settings such as
// ?pool_size=20. It does not connect, see Wait. Errors name REDIS_URL and are
// free of secrets.
//
// A command is tried twice, 100 ms to 1 s apart (?max_retries=), and its context
// is obeyed in all of that. So a PUBLISH whose answer got lost may be published
// twice. Close the client when done.
func Open(url string, o Options) (redis.UniversalClient, error) {
	opt, err := parse(url)
	if err != nil {
		return nil, fmt.Errorf("REDIS_URL=%q: %w (want redis://[user:password@]host:port[/database], rediss:// or unix://)", Redact(url), err)
	}
	if opt.Protocol == 3 {
		return nil, fmt.Errorf("REDIS_URL=%q: protocol=3 is not supported: with RESP3 go-redis may lose pub/sub messages", Redact(url))
	}
	opt.Protocol = 2
	if opt.ClientName == "" && o.Worker != "" {
		opt.ClientName = "sluice-" + o.Worker
	}
	// One connection more or less must not depend on CLIENT SETINFO, which old
	// servers, proxies and narrow ACLs refuse.
	opt.DisableIdentity = true
	// Needs RESP3, and would resolve the host name just to find that out.
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

	setDefault(&opt.DialTimeout, DialTimeout)
	setDefault(&opt.ReadTimeout, ReadTimeout)
	setDefault(&opt.WriteTimeout, WriteTimeout)
	// go-redis nests them: each of the commands that set up a connection is tried
	// as often, within each try of the command itself. With its default of three
	// retries, a Redis that answers LOADING is reported after half a minute.
	setDefault(&opt.MaxRetries, 1)
	setDefault(&opt.MinRetryBackoff, 100*time.Millisecond)
	setDefault(&opt.MaxRetryBackoff, time.Second)
	// Within each try, too: the default is five dials, 25 s in a black hole.
	opt.DialerRetries = 1
	// Without it go-redis obeys only its own timeouts, not the caller's.
	opt.ContextTimeoutEnabled = true
	return redis.NewClient(opt), nil
}

// setDefault leaves alone what the URL has set; go-redis has -1 for "none".
func setDefault[T int | time.Duration](d *T, v T) {
	if *d == 0 {
		*d = v
	}
}

// parse is redis.ParseURL with errors that do not quote the password. Those of
// net/url and go-redis quote the URL, or the part of the password after a "/"
// or "?" that ought to have been percent-encoded.
func parse(url string) (*redis.Options, error) {
	opt, err := redis.ParseURL(url)
	if err == nil {
		if strings.Contains(url, "#") {
			// Accepted, but what follows is ignored: redis://:a#b@host would
			// become a connection to port "a".
			return nil, errors.New(`"#" must be written as %23`)
		}
		return opt, nil
	}
	bare, ok := withoutUserinfo(url)
	if !ok {
		return nil, err // no "@", so nothing to hide
	}
	if _, err := redis.ParseURL(bare); err != nil {
		return nil, err
	}
	return nil, errors.New("user name or password cannot be read: percent-encode special characters in them")
}

// withoutUserinfo cuts out everything between "://" and the last "@", which is
// where the secret is even in a URL that net/url reads differently.
func withoutUserinfo(url string) (bare string, found bool) {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		// Not a URL at all; be careful with what stands before an "@".
		scheme, rest = "", url
	}
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return url, false
	}
	if ok {
		scheme += "://"
	}
	return scheme + rest[at+1:], true
}
