package check

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const natsValues = "values/nats.yaml"

// bare is what the NATS chart writes into a server's configuration without quotes.
var bare = regexp.MustCompile(`"<< (\S+) >>"`)

// nats reads the chart's values: all of them by the chart's names, and the accounts as a
// NATS server does, whose users and rights are compared with those of
// deploy/nats/nats.conf, with which the programs are tested.
func nats(fs filesys.FileSystem, p *problems) {
	text, err := fs.ReadFile(at(natsValues))
	if err != nil {
		p.add("%v", err)
		return
	}
	values, err := readChart(text)
	if err != nil {
		p.add("%v", err)
		return
	}
	values.fits(fs, p)
	merged, err := json.Marshal(values.Config.Merge)
	if err != nil {
		p.add("%v", err)
		return
	}
	unescaped := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(merged))
	conf, err := fs.ReadFile("/sluice/deploy/nats/nats.conf")
	if err != nil {
		p.add("%v", err)
		return
	}
	want, err := users(string(conf))
	if err != nil {
		p.add("%v", err)
		return
	}
	got, err := users(bare.ReplaceAllString(unescaped, "$1"))
	if err != nil {
		p.add("a NATS server says: %v", err)
		return
	}
	for name, u := range want {
		switch v := got[name]; {
		case v == nil:
			p.add("no user %s", name)
		case !reflect.DeepEqual(u.Permissions, v.Permissions):
			p.add("user %s has other rights than in deploy/nats/nats.conf", name)
		case u.Account.Name != v.Account.Name:
			p.add("user %s is in account %s", name, v.Account.Name)
		}
	}
	if len(got) != len(want) {
		p.add("%d users, want %d", len(got), len(want))
	}
}

// users reads a configuration as a NATS server does.
func users(conf string) (map[string]*server.User, error) {
	for _, who := range []string{"BRIDGE", "NODE", "PUBLISHER", "OPERATOR"} {
		key := "SLUICE_" + who + "_PASSWORD"
		if err := os.Setenv(key, "a-password"); err != nil {
			return nil, err
		}
		defer os.Unsetenv(key)
	}
	o := &server.Options{}
	if err := o.ProcessConfigString(conf); err != nil {
		return nil, err
	}
	byName := map[string]*server.User{}
	for _, u := range o.Users {
		byName[u.Username] = u
	}
	return byName, nil
}
