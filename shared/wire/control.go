package wire

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Control is what nodes are asked and answer, each as JSON: a request goes to all
// nodes on NodeVerb, each answers on the subject that it names. Nodes say that they
// are there on Hellos, so that who asks knows whether all have answered.

const (
	// ControlVersion is of the form of these messages. A node that gets another one
	// says so (RefusedVersion) and does nothing.
	ControlVersion = 1
	// MaxControl bounds one message in bytes.
	MaxControl = 512 << 10
)

// NodeVerb is the subject on which all nodes are asked to do something.
func (s Stream) NodeVerb(verb string) string { return s.Ctl() + "node." + verb }

// Hellos is the subject on which nodes say that they are there.
func (s Stream) Hellos() string { return s.Ctl() + "hello" }

// Replies is the prefix, ending in a dot, of the subjects on which one who asks is
// answered; id is one token. They are below Ctl, so that no right to inboxes is
// needed to answer.
func (s Stream) Replies(id string) string { return s.Ctl() + "reply." + id + "." }

// Hello says that a node is there.
type Hello struct {
	Version int    `json:"v"`
	ID      string `json:"id,omitempty"`   // of the node's run; "" only asks who is there
	Name    string `json:"node,omitempty"` // as in connected events
	Leaving bool   `json:"leaving,omitempty"`
}

// Request is the body of what all nodes are asked.
type Request struct {
	Version int             `json:"v"`
	Body    json.RawMessage `json:"body"`
}

// Answer is what one node says to a Request.
type Answer struct {
	Version int             `json:"v"`
	ID      string          `json:"id"` // as in its Hello
	Name    string          `json:"node"`
	Refused string          `json:"refused,omitempty"` // why it has done nothing
	Body    json.RawMessage `json:"body,omitempty"`
}

// Why a node does nothing about a request.
const (
	RefusedVersion   = "version"   // another ControlVersion
	RefusedMalformed = "malformed" // not what the verb asks for
	RefusedBusy      = "busy"      // it has too many requests in work
)

// Refresh is the body of the verb of that name: the connections of a client act for
// a newer token from now on. What is sent is what the token says, never the token:
// who reads along cannot use it.
type Refresh struct {
	ClientID string `json:"clientId"`
	// Claims are those of a token that the asked node has verified.
	Claims json.RawMessage `json:"claims,omitempty"`
}

// Verbs are all that a node can be asked.
var Verbs = []string{VerbRefresh, VerbSubscribe, VerbUnsubscribe, VerbPresence, VerbClients, VerbDoubt, VerbInspect, VerbTap}

// VerbRefresh is the verb of a Refresh, answered with Refreshed.
const VerbRefresh = "refresh"

// Refreshed is what one node did.
type Refreshed struct {
	Connections int `json:"connections,omitempty"` // that go on
	Closed      int `json:"closed,omitempty"`      // because the token does not allow all they have
	// Channel, or pattern, is one that it does not allow.
	Channel *string `json:"channel,omitempty"`
}

var errControl = errors.New("control message")

// EncodeControl writes a message, or one's body.
func EncodeControl(m any) ([]byte, error) {
	b, err := json.Marshal(m)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errControl, err)
	case len(b) > MaxControl:
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errControl, len(b), MaxControl)
	}
	return b, nil
}

// DecodeControl is the reverse of EncodeControl.
func DecodeControl(b []byte, m any) error {
	if len(b) > MaxControl {
		return fmt.Errorf("%w: %d bytes, at most %d", errControl, len(b), MaxControl)
	}
	if err := json.Unmarshal(b, m); err != nil {
		return fmt.Errorf("%w: %w", errControl, err)
	}
	return nil
}
