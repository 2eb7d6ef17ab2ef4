package publisher

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"sluice/shared/channel"
)

// places are the channels that a request does not name itself: everybody's, a
// client's, a group's.
type places struct {
	everybody     string
	client, group channel.Template
}

// The names that the settings' templates may have.
const (
	clientName = "clientId"
	groupName  = "group"
)

func newPlaces(c *ServeConfig) (places, error) {
	var p places
	everybody, err := place("BROADCAST_CHANNEL", c.BroadcastChannel, "")
	if err != nil {
		return p, err
	}
	if p.everybody, err = fill(everybody, ""); err != nil {
		return p, fmt.Errorf("BROADCAST_CHANNEL=%q: %w", c.BroadcastChannel, err)
	}
	if p.client, err = place("CLIENT_CHANNEL", c.ClientChannel, clientName); err != nil {
		return p, err
	}
	p.group, err = place("GROUP_CHANNEL", c.GroupChannel, groupName)
	return p, err
}

// place reads a setting that is one channel, with the placeholder name in it.
func place(setting, text, name string) (channel.Template, error) {
	want := "no placeholder"
	if name != "" {
		want = "{" + name + "}"
	}
	t, err := channel.ParseTemplate(text, func(n string) bool { return n == name && n != "" }, want)
	if err != nil {
		return t, fmt.Errorf("%s=%q: %w", setting, text, err)
	}
	if name != "" && len(t.Names()) == 0 {
		return t, fmt.Errorf("%s=%q: want %s in it, else all would share one channel", setting, text, want)
	}
	list, err := t.Fill(1, func(string) ([]string, error) { return []string{"x"}, nil })
	switch {
	case err != nil:
		return t, fmt.Errorf("%s=%q: %w", setting, text, err)
	case !list[0].Literal():
		return t, fmt.Errorf("%s=%q: want one channel, without wildcards (a literal * is written %%2A)", setting, text)
	}
	return t, nil
}

// fill returns the channel that the template names with this value in it, which
// is literal whatever it has in it.
func fill(t channel.Template, value string) (string, error) {
	list, err := t.Fill(1, func(string) ([]string, error) { return []string{value}, nil })
	if err != nil {
		return "", err
	}
	return channel.FromSubject(list[0].Subject())
}

// clientID is what a node takes for one.
var clientID = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,64}$`)

func (p *places) ofClient(id string) (string, *refusal) {
	if !clientID.MatchString(id) {
		return "", bad("clientId %.100q: want 1 to 64 of A-Z a-z 0-9 . _ ~ -", id)
	}
	return p.filled(p.client, id)
}

// ofGroup: a colon would reach into another part of the channel's name.
func (p *places) ofGroup(name string) (string, *refusal) {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r == ':' || unicode.IsControl(r) }) {
		return "", bad("group %.100q: want a name without colons and control characters; channels with others can be named by \"channel\"", name)
	}
	return p.filled(p.group, name)
}

func (p *places) filled(t channel.Template, value string) (string, *refusal) {
	name, err := fill(t, value)
	if err != nil {
		return "", &refusal{why: nameTooLong, text: err.Error()}
	}
	return name, nil
}
