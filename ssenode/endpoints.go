package ssenode

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"sluice/shared/channel"
)

// Endpoints are paths of an application, kept as they are, each with the
// channels that it streams. The syntax is that of SSENODE_ENDPOINTS:
//
//	/api/events/race=race-events:{query.urlSlug}; /getBillStatus=billStatusChannel
//
// A template is a channel or pattern in which {query.NAME}, {clientId} and
// {claim.NAME} stand for literal text. The zero value has no endpoints.
type Endpoints struct {
	byPath map[string][]template
}

// template is literal text and placeholders in turn, beginning with text:
// one more text than there are names.
type template struct {
	texts []string
	names []string // "query.urlSlug", "clientId", "claim.sub"
}

// ownPaths cannot be endpoints: the node, or the publisher behind the same
// host, answers them.
var ownPaths = []string{
	"/events", "/poll", "/subscribe", "/unsubscribe", "/refresh", "/presence", "/clients",
	"/sluice.js", "/sluice.d.ts", "/sluice-react.js", "/version", "/publish", "/notify", "/broadcast",
}

var (
	placeholder  = regexp.MustCompile(`\{([^{}]*)\}`)
	knownSources = regexp.MustCompile(`^(query\.[^{}\s]+|claim\.[^{}\s]+|clientId)$`)
	endpointPath = regexp.MustCompile(`^/[A-Za-z0-9._~!$&'()*+@/-]*$`)
)

// Decode parses the setting's value; it makes Endpoints a field that envconfig
// can fill. Errors tell the position, in bytes from 1, of what is wrong.
func (e *Endpoints) Decode(value string) error {
	byPath := map[string][]template{}
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
		var templates []template
		for text := range strings.SplitSeq(list, ",") {
			t, err := parseTemplate(strings.TrimSpace(text))
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

func parseTemplate(text string) (template, error) {
	var t template
	if text == "" {
		return t, fmt.Errorf("an empty channel template")
	}
	end := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(text, -1) {
		name := text[m[2]:m[3]]
		if !knownSources.MatchString(name) {
			return t, fmt.Errorf("template %q: unknown placeholder {%s}; want {query.NAME}, {claim.NAME} or {clientId}", text, name)
		}
		t.texts = append(t.texts, text[end:m[0]])
		t.names = append(t.names, name)
		end = m[1]
	}
	t.texts = append(t.texts, text[end:])
	if strings.ContainsAny(strings.Join(t.texts, ""), "{}") {
		return t, fmt.Errorf("template %q: a { or } without its partner", text)
	}
	// Whether the text is a legal pattern shows with any value put in.
	if _, err := channel.ParsePattern(strings.Join(t.texts, "x")); err != nil {
		return t, fmt.Errorf("template %q: %w", text, err)
	}
	return t, nil
}

// lookup returns the templates of an exact path.
func (e *Endpoints) lookup(path string) ([]template, bool) {
	t, ok := e.byPath[path]
	return t, ok
}

// fill puts the request's values into the templates.
func fill(templates []template, query string, limit int) (*request, error) {
	params, err := parseQuery(query)
	if err != nil {
		return nil, err
	}
	r := &request{}
	if err := r.common(params); err != nil {
		return nil, err
	}
	for _, t := range templates {
		text := t.texts[0]
		for i, name := range t.names {
			value, err := r.value(name, params)
			if err != nil {
				return nil, err
			}
			exact, err := channel.Exact(value)
			if err != nil {
				return nil, bad("%s: %v", name, err)
			}
			text += exact.String() + t.texts[i+1]
		}
		p, err := channel.ParsePattern(text)
		if err != nil {
			return nil, bad("channel %q: %v", clip(text), err)
		}
		if !p.Literal() {
			r.patterns = append(r.patterns, p.String())
			continue
		}
		name, err := channel.FromSubject(p.Subject())
		if err != nil {
			return nil, bad("channel %q: %v", clip(text), err)
		}
		r.channels = append(r.channels, name)
	}
	return r, r.resolve(limit)
}

// value is what a placeholder stands for. It is literal text: a colon in a
// query value could reach into another part of the channel's name and is
// refused.
func (r *request) value(name string, params []param) (string, error) {
	source, key, _ := strings.Cut(name, ".")
	switch source {
	case "clientId":
		return r.clientID, nil
	case "query":
		for _, p := range params {
			if p.name != key || p.value == "" {
				continue
			}
			if strings.Contains(p.value, ":") {
				return "", bad("query value %s=%q: a colon is not allowed in it", key, clip(p.value))
			}
			return p.value, nil
		}
		return "", bad("query value %q is missing: want ?%s=…", key, key)
	}
	// Claims come with authentication; until then nobody has one.
	return "", &badRequest{http.StatusUnauthorized, "Unauthorized"}
}
