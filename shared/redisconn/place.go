package redisconn

import (
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// place is what a URL says.
type place struct {
	server  redis.Options // of every Redis server; Addr is set if it is the only one
	cluster bool
	master  string   // the master's name, with Sentinel
	addrs   []string // of the sentinels, or of some servers of the Cluster
	// The sentinels' own.
	sentinelUser, sentinelPassword string
}

// mistake is an error that says all, and nothing secret.
type mistake string

func (m mistake) Error() string { return string(m) }

// parse is read with errors that do not quote a password. Those of net/url and
// go-redis quote the URL, or the part of the password after a "/" or "?" that
// ought to have been percent-encoded.
func parse(raw string) (*place, error) {
	p, err := read(raw)
	if err == nil {
		return p, nil
	}
	var m mistake
	bare, hidden := withoutSecrets(raw, "")
	if errors.As(err, &m) || !hidden {
		return nil, err
	}
	if _, err := read(bare); err != nil {
		return nil, err
	}
	return nil, mistake("user name or password cannot be read: percent-encode special characters in them")
}

func read(raw string) (*place, error) {
	if strings.Contains(raw, "#") {
		// Accepted elsewhere, but what follows is ignored: redis://:a#b@host would
		// become a connection to port "a".
		return nil, mistake(`"#" must be written as %23`)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, err // go-redis would silently leave out what it cannot read
	}
	p := &place{}
	u.Scheme, p.cluster = strings.CutSuffix(u.Scheme, "+cluster")
	if err := p.names(u, query); err != nil {
		return nil, err
	}
	if !p.cluster && p.master == "" {
		opt, err := redis.ParseURL(raw)
		if err != nil {
			return nil, err
		}
		p.server = *opt
		return p, nil
	}
	login := u.User
	if p.master != "" {
		u.User = url.UserPassword(query.Get("username"), query.Get("password"))
		p.sentinelUser = login.Username()
		p.sentinelPassword, _ = login.Password()
		if u.Port() == "" && u.Host != "" {
			u.Host += ":26379"
		}
	}
	for _, name := range []string{"addr", "master_name", "username", "password"} {
		query.Del(name)
	}
	u.RawQuery = query.Encode()
	opt, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, err
	}
	if p.cluster && opt.DB != 0 {
		return nil, mistake("a Cluster has only database 0")
	}
	p.addrs = slices.Insert(p.addrs, 0, opt.Addr)
	p.server, p.server.Addr = *opt, ""
	return p, nil
}

// names takes from the query who is to be asked for whom, and refuses what does
// not go together.
func (p *place) names(u *url.URL, query url.Values) error {
	masters, addrs := query["master_name"], query["addr"]
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if name, value, _ := strings.Cut(pair, "="); isSecret(name) && strings.Contains(value, "+") {
			return mistake(`"+" in username= or password= means a space: write %2B or %20`)
		}
	}
	switch {
	case p.cluster && len(masters) > 0:
		return mistake("master_name does not go with +cluster: Sentinel is redis://host:port?master_name=name&addr=host:port…, a Cluster redis+cluster://host:port?addr=host:port…")
	case u.Scheme == "unix" && (p.cluster || len(masters) > 0 || len(addrs) > 0):
		return mistake("unix:// is one server: Sentinel is redis://host:port?master_name=name, a Cluster redis+cluster://host:port")
	case len(masters) > 1 || len(masters) == 1 && masters[0] == "":
		return mistake("master_name must be one name, that in the sentinels' configuration")
	case !p.cluster && len(masters) == 0 && len(addrs) > 0:
		return mistake("addr is for several servers: add master_name=… for Sentinel, or write redis+cluster:// for a Cluster")
	case len(masters) == 0 && (query.Has("username") || query.Has("password")):
		return mistake("username= and password= go with master_name; else it is redis://user:password@host:port")
	}
	if len(masters) > 0 {
		p.master = masters[0]
	}
	for _, addr := range addrs {
		// It may be a whole URL with a password, so it is not quoted.
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host == "" || port == "" || strings.ContainsAny(addr, "@/") {
			return mistake("addr must be host:port")
		}
		p.addrs = append(p.addrs, addr)
	}
	return nil
}

// options are those of the server at addr.
func (p *place) options(addr string) *redis.Options {
	o := p.server
	o.Addr = addr
	return &o
}

// sentinel are the options of the sentinel at addr.
func (p *place) sentinel(addr string) *redis.Options {
	o := p.options(addr)
	o.Username, o.Password, o.DB = p.sentinelUser, p.sentinelPassword, 0
	return o
}

// universal has the same settings in go-redis' form for all cases.
func (p *place) universal() *redis.UniversalOptions {
	o := &p.server
	return &redis.UniversalOptions{
		Addrs:            p.addrs,
		MasterName:       p.master,
		SentinelUsername: p.sentinelUser,
		SentinelPassword: p.sentinelPassword,

		Username:   o.Username,
		Password:   o.Password,
		DB:         o.DB,
		ClientName: o.ClientName,
		OnConnect:  o.OnConnect,
		Dialer:     o.Dialer,
		TLSConfig:  o.TLSConfig,
		Protocol:   o.Protocol,

		DialTimeout:           o.DialTimeout,
		DialerRetries:         o.DialerRetries,
		ReadTimeout:           o.ReadTimeout,
		WriteTimeout:          o.WriteTimeout,
		MaxRetries:            o.MaxRetries,
		MinRetryBackoff:       o.MinRetryBackoff,
		MaxRetryBackoff:       o.MaxRetryBackoff,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled,

		PoolFIFO:                o.PoolFIFO,
		PoolSize:                o.PoolSize,
		PoolTimeout:             o.PoolTimeout,
		MinIdleConns:            o.MinIdleConns,
		MaxIdleConns:            o.MaxIdleConns,
		MaxActiveConns:          o.MaxActiveConns,
		MaxConcurrentDials:      o.MaxConcurrentDials,
		ConnMaxIdleTime:         o.ConnMaxIdleTime,
		ConnMaxLifetime:         o.ConnMaxLifetime,
		ConnMaxLifetimeJitter:   o.ConnMaxLifetimeJitter,
		PipelinePoolSize:        o.PipelinePoolSize,
		PipelineReadBufferSize:  o.PipelineReadBufferSize,
		PipelineWriteBufferSize: o.PipelineWriteBufferSize,

		DisableIdentity:          o.DisableIdentity,
		MaintNotificationsConfig: o.MaintNotificationsConfig,
	}
}
