package ssenode

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sluice/shared/channel"
	"sluice/ssenode/auth"
)

// Endpoints are paths of an application, kept as they are, each with the
// channels that it streams. The syntax is that of SSENODE_ENDPOINTS:
//
//	/api/events/race=race-events:{query.urlSlug}; /getBillStatus=billStatusChannel
//
// A template is a channel or pattern in which {query.NAME}, {clientId} and
// {claim.NAME} stand for literal text. The zero value has no endpoints.
type Endpoints struct {
	byPath map[string][]channel.Template
}

// ownPaths cannot be endpoints: the node, or the publisher behind the same
// host, answers them.
var ownPaths = []string{
	"/events", "/poll", "/subscribe", "/unsubscribe", "/refresh", "/presence", "/clients",
	"/sluice.js", "/sluice.d.ts", "/sluice-tabs.js", "/sluice-react.js", "/sluice-react.d.ts", "/version", "/publish", "/notify", "/broadcast",
}

var (
	knownSources = regexp.MustCompile(`^(query\.[^{}\s]+|claim\.[^{}\s]+|clientId)$`)
	endpointPath = regexp.MustCompile(`^/[A-Za-z0-9._~!$&'()*+@/-]*$`)
)

// Decode parses the setting's value; it makes Endpoints a field that envconfig
// can fill. Errors tell the position, in bytes from 1, of what is wrong.
func (e *Endpoints) Decode(value string) error {
	byPath := map[string][]channel.Template{}
	at := 0
	for entry := range strings.SplitSeq(value, ";") {
		pos := at + 1 + len(entry) - len(strings.TrimLeft(entry, " \t\n"))
		at += len(entry) + 1
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		path, list, ok := strings.Cut(entry, "=")
		path = strings.TrimSpace(path)
		switch {
		case !ok:
			return fmt.Errorf("at position %d: %q has no =; want /path=channel or /path=channel,channel", pos, entry)
		case !endpointPath.MatchString(path) || path == "/":
			return fmt.Errorf("at position %d: path %q: want one that begins with / and needs no percent-encoding", pos, path)
		case isOwn(path):
			return fmt.Errorf("at position %d: path %q is one of the node's own", pos, path)
		case byPath[path] != nil:
			return fmt.Errorf("at position %d: path %q is there twice", pos, path)
		}
		var templates []channel.Template
		for text := range strings.SplitSeq(list, ",") {
			t, err := channel.ParseTemplate(strings.TrimSpace(text), knownSources.MatchString, "{query.NAME}, {claim.NAME} or {clientId}")
			if err != nil {
				return fmt.Errorf("at position %d: path %q: %w", pos, path, err)
			}
			templates = append(templates, t)
		}
		byPath[path] = templates
	}
	e.byPath = byPath
	return nil
}

func isOwn(path string) bool {
	return slices.ContainsFunc(ownPaths, func(own string) bool {
		return path == own || strings.HasPrefix(path, own+"/")
	})
}

// lookup returns the templates of an exact path.
func (e *Endpoints) lookup(path string) ([]channel.Template, bool) {
	t, ok := e.byPath[path]
	return t, ok
}

// fill puts the request's values into the templates.
func (r *request) fill(templates []channel.Template, params []param, limit int) error {
	var missing error
	for _, t := range templates {
		list, err := t.Fill(limit, func(name string) ([]string, error) {
			values, err := r.values(name, params)
			if err == nil && len(values) == 0 {
				missing = &auth.Unauthorized{Code: auth.Missing, Claim: strings.TrimPrefix(name, "claim.")}
			}
			return values, err
		})
		var known *badRequest
		var nobody *auth.Unauthorized
		switch {
		case errors.As(err, &known) || errors.As(err, &nobody):
			return err
		case errors.Is(err, channel.ErrTooMany):
			return tooMany("%v", err)
		case err != nil:
			return bad("%v", err)
		}
		if err := r.add(list); err != nil {
			return err
		}
	}
	if len(r.channels)+len(r.patterns) == 0 {
		return missing // an empty array, and nothing else to listen to
	}
	return r.resolve(limit)
}

// values are what a placeholder stands for. They are literal text: a colon in a
// query value could reach into another part of the channel's name and is
// refused; what signs tokens is trusted with it.
func (r *request) values(name string, params []param) ([]string, error) {
	source, key, _ := strings.Cut(name, ".")
	switch source {
	case "clientId":
		return []string{r.clientID}, nil
	case "claim":
		return r.identity.Claim(key)
	}
	for _, p := range params {
		if p.name != key || p.value == "" {
			continue
		}
		if strings.Contains(p.value, ":") {
			return nil, bad("query value %s=%q: a colon is not allowed in it", key, clip(p.value))
		}
		return []string{p.value}, nil
	}
	return nil, bad("query value %q is missing: want ?%s=…", key, key)
}
