// Package wire is what bridges and nodes say to each other over NATS: names of
// subjects and the stream, the header on every message, the id of an event and
// the pulse.
//
//	bridge ── sluice.log.<subject>  ──> stream SLUICE ──RePublish──> sluice.live.<subject> ──> nodes
//	bridge ── sluice.live.<subject> ──────────────── (history=off) ─────────────────────────> nodes
//	bridge ── sluice.log.$pulse     ──> stream SLUICE ──RePublish──> sluice.live.$pulse    ──> nodes
//	anyone ── sluice.ctl.node.<verb> ──> all nodes ── sluice.ctl.reply.<who asked>.<n> ──> who asked
//
// A token that begins with `$` cannot come from a channel name (see package
// channel), so the system's own subjects are out of every client's reach.
package wire

import (
	"fmt"
	"strings"
)

// Stream is the group of settings STREAM_NAME and STREAM_PREFIX, which bridges
// and nodes of one installation share.
type Stream struct {
	Name   string `default:"SLUICE" desc:"JetStream stream that holds the history"`
	Prefix string `default:"sluice" desc:"first token of all NATS subjects"`
}

// Tokens after the log or live prefix that carry no channel.
const (
	PulseToken = "$pulse"
	GapToken   = "$gap"
	// FenceToken is for padding, see package bridge; nobody reads it.
	FenceToken = "$fence"
)

// MarkChannel is the Redis channel on which the leading bridge publishes its nonces.
// It is never mirrored.
const MarkChannel = "sluice:mark"

// Headers. Header is ours, the others are written by the NATS server when it
// republishes a stored message.
const (
	Header             = "Sluice"
	HeaderSequence     = "Nats-Sequence"
	HeaderLastSequence = "Nats-Last-Sequence"
)

// Validate says what is wrong with a name, and with which setting.
func (s Stream) Validate() error {
	if s.Name == "" || strings.ContainsAny(s.Name, " .*>/\\\t\r\n") {
		return fmt.Errorf("STREAM_NAME=%q: want a name without spaces, dots, slashes, * and >", s.Name)
	}
	if s.Prefix == "" || strings.ContainsAny(s.Prefix, " .*>\t\r\n") || s.Prefix[0] == '$' {
		return fmt.Errorf("STREAM_PREFIX=%q: want one subject token without spaces, dots, *, > and a leading $", s.Prefix)
	}
	return nil
}

// Log is the prefix, ending in a dot, of the subjects that the stream captures.
func (s Stream) Log() string { return s.Prefix + ".log." }

// Ctl is the prefix, ending in a dot, of the subjects on which bridges and nodes
// are asked and answer. No channel's name leads there.
func (s Stream) Ctl() string { return s.Prefix + ".ctl." }

// Bridges is the subject on which bridges ask each other.
func (s Stream) Bridges() string { return s.Ctl() + "bridge" }

// Live is the prefix, ending in a dot, of the subjects that nodes listen to.
func (s Stream) Live() string { return s.Prefix + ".live." }
