package redisconn

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestOpenTellsTheKindsApart(t *testing.T) {
	f := func(url string, want any) {
		t.Helper()
		c, err := Open(url, Options{})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			return
		}
		defer c.Close()
		if reflect.TypeOf(c) != reflect.TypeOf(want) {
			t.Errorf("%s: %T, want %T", url, c, want)
		}
	}
	f("redis://h", &redis.Client{})
	f("rediss://h:1/2?pool_size=3", &redis.Client{})
	f("unix:///run/redis.sock", &redis.Client{})
	f("redis://h?master_name=m", &redis.Client{})
	f("redis+cluster://h", &redis.ClusterClient{})
	f("rediss+cluster://h", &redis.ClusterClient{})
}

func TestSentinelURL(t *testing.T) {
	p, err := settle("rediss://su:s%40@s1:1/3?master_name=m&addr=s2:2&addr=[::1]:3&username=u&password=p%26w&read_timeout=7&max_retries=-1", Options{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	o := p.universal().Failover()
	if !slices.Equal(o.SentinelAddrs, []string{"s1:1", "s2:2", "[::1]:3"}) || o.MasterName != "m" {
		t.Errorf("%q of %q", o.MasterName, o.SentinelAddrs)
	}
	if o.SentinelUsername != "su" || o.SentinelPassword != "s@" || o.Username != "u" || o.Password != "p&w" || o.DB != 3 {
		t.Errorf("%s:%s at the sentinels, %s:%s at database %d", o.SentinelUsername, o.SentinelPassword, o.Username, o.Password, o.DB)
	}
	if o.TLSConfig == nil || o.ReadTimeout != 7*time.Second || o.DialTimeout != DialTimeout || o.MaxRetries != -1 || o.Protocol != 2 || !o.ContextTimeoutEnabled {
		t.Errorf("%+v", o)
	}
	if s := p.sentinel("a"); s.Addr != "a" || s.Username != "su" || s.Password != "s@" || s.DB != 0 || s.Protocol != 2 {
		t.Errorf("sentinel: %+v", s)
	}
	if p, err = settle("redis://h?master_name=m", Options{}, 1); err != nil || p.addrs[0] != "h:26379" {
		t.Errorf("without a port: %v, %v", p.addrs, err)
	}
}

func TestClusterURL(t *testing.T) {
	p, err := settle("rediss+cluster://u:p%2Fw@a:1?addr=b:2&addr=c:3&skip_verify=true", Options{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(p)
	defer c.Close()
	o := c.Options()
	if !slices.Equal(o.Addrs, []string{"a:1", "b:2", "c:3"}) || o.Username != "u" || o.Password != "p/w" {
		t.Errorf("%s:%s at %q", o.Username, o.Password, o.Addrs)
	}
	if o.TLSConfig == nil || !o.TLSConfig.InsecureSkipVerify || o.Protocol != 2 || o.ReadTimeout != ReadTimeout || o.MaxRedirects != 2 {
		t.Errorf("%+v", o)
	}
	p, err = settle("redis+cluster://a:1?max_retries=-1", Options{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	once := newCluster(p)
	defer once.Close()
	if n := once.Options().MaxRedirects; n != 0 {
		t.Errorf("with max_retries=-1 a command is tried %d times more", n)
	}
}

// What one server gets from the URL the others get too. go-redis adds settings
// from time to time.
func TestNoSettingIsForgotten(t *testing.T) {
	const settings = "?client_name=a&max_retries=1&min_retry_backoff=2&max_retry_backoff=3&dial_timeout=4&read_timeout=5&write_timeout=6" +
		"&pool_fifo=true&pool_size=7&pool_timeout=8&min_idle_conns=9&max_idle_conns=10&max_active_conns=11&max_concurrent_dials=12" +
		"&pipeline_pool_size=13&pipeline_read_buffer_size=14&pipeline_write_buffer_size=15&conn_max_idle_time=16&conn_max_lifetime=17&conn_max_lifetime_jitter=16"
	one, err := settle("rediss://h"+settings, Options{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	f := func(url string, others any) {
		t.Helper()
		got, want := reflect.ValueOf(others).Elem(), reflect.ValueOf(one.server)
		for i := range want.NumField() {
			field := want.Type().Field(i)
			value := got.FieldByName(field.Name)
			if !field.IsExported() || !value.IsValid() || !want.Field(i).Comparable() || field.Name == "TLSConfig" || field.Name == "MaintNotificationsConfig" {
				continue
			}
			if want.Field(i).Interface() != value.Interface() {
				t.Errorf("%s: %s is %v, want %v", url, field.Name, value, want.Field(i))
			}
		}
	}
	sentinel, err := settle("rediss://h"+settings+"&master_name=m", Options{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	f("sentinel", sentinel.universal().Failover())
	cluster, err := settle("rediss+cluster://h"+settings, Options{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	f("cluster", cluster.universal().Cluster())
}

func TestContradictionsSayWhatWouldBeRight(t *testing.T) {
	f := func(url, want string) { t.Helper(); refused(t, url, want, "s3cr", "3tt") }
	f("redis+cluster://h?master_name=m", "Sentinel is redis://host:port?master_name")
	f("redis+cluster://u:s3cr3tt@h:1/2", "only database 0")
	f("redis+cluster://h:1?db=2", "only database 0")
	f("redis://h?addr=b:1", "add master_name")
	f("redis://h?addr=b:1", "redis+cluster://")
	f("redis://h?password=s3cr3tt", "redis://user:password@host:port")
	f("redis+cluster://h?username=s3cr3tt", "redis://user:password@host:port")
	f("redis://h?master_name=", "one name")
	f("redis://h?master_name=a&master_name=b", "one name")
	f("redis://h?master_name=a&addr=b", "addr must be host:port")
	f("redis://h?master_name=a&addr=redis://:s3cr3tt@h:1", "addr must be host:port")
	f("redis://h?master_name=a&route_randomly=true", "unexpected option: route_randomly")
	f("redis://h?master_name=a&password=s3cr3tt&protocol=3", "protocol=3")
	f("redis+cluster://:s3cr3tt@h?protocol=3", "protocol=3")
	f("redis+cluster://:s3cr3tt@h?nonsense=1", "nonsense")
	f("unix+cluster:///x", "unix:// is one server")
	f("unix:///x?master_name=m", "unix:// is one server")
	f("http+cluster://h", "invalid URL scheme: http")
	f("redis-sentinel://:s3cr3tt@h", "invalid URL scheme: redis-sentinel")
	// Passwords in the query.
	f("redis://h?master_name=m&password=s3cr+3tt", "%2B")
	f("redis://h?master_name=m&password=s3cr&3tt", "percent-encode")
	f("redis://h?master_name=m&password=s3cr;3tt", "percent-encode")
	f("redis://h?master_name=m&password=s3cr%3tt", "percent-encode")
	f("redis://h?master_name=m&password=s3cr#3tt", "%23")
	f("redis://h:x?master_name=m&password=s3cr@3tt", "percent-encode")
	f("redis://h?master_name=m&password=s3cr3tt&nonsense=1", "percent-encode") // it may be a part of it
	f("redis://h?master_name=m&nonsense=1&password=s3cr3tt", "nonsense")
	f("redis://:s3cr3tt?password=3tt@h:x", "percent-encode")
	f("redis://h?p%61ssword=s3cr3tt", "redis://user:password@host:port")
	f("redis://h?sentinel_password=s3cr3tt", "percent-encode")
}

func TestRedactQuery(t *testing.T) {
	f := func(url, want string) { t.Helper(); redacted(t, url, want) }
	f("redis://h:1?master_name=m&addr=a:1&addr=b:2", "redis://h:1?master_name=m&addr=a:1&addr=b:2")
	f("redis://u:p@h?master_name=m&username=u&password=p&addr=a:1", "redis://***@h?master_name=m&username=***&password=***&addr=a:1")
	f("redis://h?master_name=m&password=a&b&addr=a:1", "redis://h?master_name=m&password=***&addr=a:1")
	f("redis://h?master_name=m&password=a@b", "redis://***")
	f("redis://:x?password=y@h", "redis://***")
	f("redis+cluster://u:p@h:1?addr=a:1", "redis+cluster://***@h:1?addr=a:1")
	f("h?password=p", "h?password=***")
}
