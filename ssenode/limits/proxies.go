package limits

import (
	"fmt"
	"net/netip"
	"strings"
)

// Proxies are a setting: the addresses of proxies that are believed when they tell
// where a request comes from. The zero value believes none.
type Proxies struct{ list []netip.Prefix }

// Decode parses the setting's value, addresses and CIDRs separated by commas; it
// makes Proxies a field that envconfig can fill.
func (p *Proxies) Decode(value string) error {
	p.list = nil
	for text := range strings.SplitSeq(value, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		prefix, err := parsePrefix(text)
		if err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
		p.list = append(p.list, prefix)
	}
	return nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("want an address or a CIDR such as 10.0.0.0/8")
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("want an address or a CIDR such as 10.0.0.0/8")
	case prefix.Bits() == 0:
		return netip.Prefix{}, fmt.Errorf("any client could name any address; want only your proxies")
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("want IPv4 addresses as such, e.g. 10.0.0.0/8")
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("has bits behind its length; want %s", prefix.Masked())
	}
	return prefix, nil
}

// Trusts tells whether an address is one of the proxies.
func (p *Proxies) Trusts(a netip.Addr) bool {
	for _, prefix := range p.list {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// Client is where a request comes from. That is the peer, unless it is one of the
// proxies and says otherwise: then the last address, from the right, that is not one
// of them. What is left of that anyone may have written. What cannot be read ends
// the walk at the proxy that has passed it on.
//
// A proxy sets one of the two fields and passes the other on as it came: where both
// are there and differ, neither is believed.
func (p *Proxies) Client(peer netip.Addr, h Header) netip.Addr {
	if !p.Trusts(peer) {
		return peer
	}
	older, hasOlder := p.walk(peer, h.PeekAll("X-Forwarded-For"), lastOfList)
	newer, hasNewer := p.walk(peer, h.PeekAll("Forwarded"), forwardedFor)
	switch {
	case hasOlder && hasNewer && older != newer:
		return peer
	case hasNewer:
		return newer
	}
	return older
}

// mostHops bounds how many proxies are believed one after the other.
const mostHops = 32

// walk goes through the lines of a field from the last address to the first. hops
// returns those of a line in this order, as they are written, at most mostHops.
func (p *Proxies) walk(peer netip.Addr, lines [][]byte, hops func(line string) []string) (client netip.Addr, found bool) {
	client = peer
	n := 0
	for i := len(lines) - 1; i >= 0; i-- {
		for _, text := range hops(string(lines[i])) {
			a, ok := parseNode(text)
			if n++; !ok || n > mostHops {
				return client, true
			}
			if client = a; !p.Trusts(a) {
				return client, true
			}
		}
	}
	return client, len(lines) > 0
}

// lastOfList returns the entries of a comma-separated list, from the right.
func lastOfList(line string) (list []string) {
	for len(list) < mostHops {
		i := strings.LastIndexByte(line, ',')
		list = append(list, strings.Trim(line[i+1:], " \t"))
		if i < 0 {
			break
		}
		line = line[:i]
	}
	return list
}

// parseNode reads an address as proxies write it: alone, in brackets, with a port.
func parseNode(text string) (netip.Addr, bool) {
	host := text
	if rest, ok := strings.CutPrefix(text, "["); ok {
		var port string
		if host, port, ok = strings.Cut(rest, "]"); !ok || port != "" && !isPort(port) || !strings.Contains(host, ":") {
			return netip.Addr{}, false
		}
	} else if strings.Count(text, ":") == 1 {
		i := strings.IndexByte(text, ':')
		if host = text[:i]; !isPort(text[i:]) {
			return netip.Addr{}, false
		}
	}
	a, err := netip.ParseAddr(host)
	if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// isPort tells whether text is a colon and a port, which RFC 7239 lets a proxy
// hide behind a name that begins with _.
func isPort(text string) bool {
	text, ok := strings.CutPrefix(text, ":")
	hidden := strings.HasPrefix(text, "_")
	if !ok || text == "" || !hidden && len(text) > 5 {
		return false
	}
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && (!hidden || !isToken(c)) {
			return false
		}
	}
	return true
}

// keyOf is what an address counts as: an IPv6 client has a network of 2^64 of them.
func keyOf(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is4() {
		return a
	}
	prefix, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return prefix.Addr()
}
