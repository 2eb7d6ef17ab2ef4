// Package redisconn opens the connection to Redis that REDIS_URL names, with
// the same time limits in every worker, and waits for Redis with a back-off.
// Nothing it returns or logs contains a password.
//
//	redis://[user:password@]host:port[/database]     one server; rediss:// with TLS, unix:///path
//	redis://[user:password@]host:port[/database]?master_name=name&addr=host:port&addr=…
//	                                                 the master that Sentinel names
//	redis+cluster://[user:password@]host:port?addr=host:port&addr=…
//	                                                 a Cluster
//
// With Sentinel, user and password before the host are those of the sentinels;
// those of the servers are &username= and &password=, as in go-redis. With
// rediss:// everybody is spoken to by TLS, the sentinels too, and every
// certificate must be valid for the first host of the URL. Certificates are
// checked against the system's, those of SSL_CERT_FILE, or those of REDIS_CA;
// &skip_verify=true checks nothing. REDIS_CERT and REDIS_KEY are for servers that
// want to see a certificate, too. Other settings are those of redis.ParseURL in all forms, for
// instance &read_timeout=5s. What has a meaning in URLs must be
// percent-encoded in names and passwords, a "+" in the query too (%2B).
//
// A worker that publishes uses Open. One that subscribes, and counts on seeing
// the same order as its like, uses Home.
//
// # Rights
//
// The commands that are sent, for ACLs. Without one of those in brackets
// everything works, with the loss that is named. HELLO, AUTH and RESET need no
// right. A database other than 0 needs SELECT.
//
//   - Open: PING (Wait), in a Cluster also CLUSTER SLOTS, and what the caller
//     asks for. [CLIENT SETNAME: no name in CLIENT LIST]
//   - Home, one server: PING. [CLIENT SETNAME; INFO: the server has no ID]
//   - Home, Sentinel: the same, and [ROLE: a demoted master is left only when the
//     sentinels name another]. At the sentinels: SENTINEL GET-MASTER-ADDR-BY-NAME;
//     Open also wants SENTINEL SENTINELS, SUBSCRIBE and PING there, and the
//     channels +switch-master and +replica-reconf-done.
//   - Home, Cluster: PING and CLUSTER SLOTS. [CLIENT SETNAME; INFO]
//   - and what the caller does with a Server: SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE,
//     PUBLISH, with the channels and patterns that it names (&pattern: an ACL
//     must hold a pattern of PSUBSCRIBE literally, or allow all with &*).
package redisconn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"sluice/shared/certs"
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
	// Channel is what Home needs in a Cluster: its slot tells the one server at
	// which to subscribe.
	Channel string
	// TLS are the files REDIS_CA, REDIS_CERT and REDIS_KEY; they are read again for
	// each connection.
	TLS certs.Client
}

// Open returns a client for a URL of the forms above. It does not connect, see
// Wait. Errors name REDIS_URL and are free of secrets.
//
// A command is tried twice, 100 ms to 1 s apart (?max_retries=), in a Cluster
// once more at another server, and its context is obeyed in all of that. So a
// PUBLISH whose answer got lost may be published twice; with max_retries=-1 it
// is tried once everywhere. In a Cluster all messages of a channel are published
// at one server, which keeps their order. Close the client when done.
func Open(url string, o Options) (redis.UniversalClient, error) {
	p, err := settle(url, o, 1)
	switch {
	case err != nil:
		return nil, err
	case p.cluster:
		return newCluster(p), nil
	case p.master != "":
		return redis.NewFailoverClient(p.universal().Failover()), nil
	default:
		return redis.NewClient(&p.server), nil
	}
}

// settle reads the URL and sets our limits where it has none of its own.
func settle(url string, o Options, retries int) (*place, error) {
	p, err := parse(url)
	var m mistake
	switch {
	case errors.As(err, &m):
		return nil, fmt.Errorf("REDIS_URL=%q: %w", Redact(url), err)
	case err != nil:
		return nil, fmt.Errorf("REDIS_URL=%q: %w (want redis://[user:password@]host:port[/database], rediss:// or unix://; "+
			"Sentinel: redis://host:port?master_name=name&addr=host:port…; Cluster: redis+cluster://host:port?addr=host:port…)", Redact(url), err)
	case p.server.Protocol == 3:
		return nil, fmt.Errorf("REDIS_URL=%q: protocol=3 is not supported: with RESP3 go-redis may lose pub/sub messages", Redact(url))
	}
	if err := o.TLS.Validate("REDIS"); err != nil {
		return nil, err
	}
	opt := &p.server
	switch {
	case o.TLS.IsSet() && opt.TLSConfig == nil:
		// Passwords and messages would go unencrypted, against what was meant.
		return nil, fmt.Errorf("REDIS_URL=%q with REDIS_CA, REDIS_CERT or REDIS_KEY: want rediss:// or rediss+cluster://", Redact(url))
	case o.TLS.CA != "" && opt.TLSConfig.InsecureSkipVerify:
		return nil, fmt.Errorf("REDIS_URL=%q with REDIS_CA: want one of skip_verify=true and REDIS_CA", Redact(url))
	}
	opt.Protocol = 2
	if opt.ClientName == "" && o.Worker != "" {
		// Not ClientName: a user that may not set a name could not connect.
		opt.OnConnect = nameIfAllowed("sluice-" + o.Worker)
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
	setDefault(&opt.MaxRetries, retries)
	setDefault(&opt.MinRetryBackoff, 100*time.Millisecond)
	setDefault(&opt.MaxRetryBackoff, time.Second)
	// Within each try, too: the default is five dials, 25 s in a black hole.
	opt.DialerRetries = 1
	// Without it go-redis obeys only its own timeouts, not the caller's.
	opt.ContextTimeoutEnabled = true
	opt.Dialer = dialer(opt, o.TLS)
	return p, nil
}

// setDefault leaves alone what the URL has set; go-redis has -1 for "none".
func setDefault[T int | time.Duration](d *T, v T) {
	if *d == 0 {
		*d = v
	}
}

func nameIfAllowed(name string) func(context.Context, *redis.Conn) error {
	return func(ctx context.Context, c *redis.Conn) error {
		err := c.ClientSetName(ctx, name).Err()
		if IsAnswer(err) {
			return nil // NOPERM, or a server that knows no names
		}
		return err
	}
}

// IsAnswer tells an error that Redis answered from one of the network.
func IsAnswer(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}
