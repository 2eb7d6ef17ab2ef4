package wire

import (
	"encoding/json"
	"time"
)

// VerbInspect is the verb of an Inspect, answered with Inspected.
const VerbInspect = "inspect"

// Inspect asks nodes about streams and polls, for an operator: of one client, of one
// subject of tokens, or of one channel; one of these, or for the closes none.
type Inspect struct {
	ClientID string `json:"clientId,omitempty"`
	Subject  string `json:"sub,omitempty"`     // of tokens
	Channel  string `json:"channel,omitempty"` // its subject
	Most     int    `json:"most"`              // of each list

	Clients    bool `json:"clients,omitempty"`    // list them
	Attributes bool `json:"attributes,omitempty"` // with the values of their attributes
	Closes     bool `json:"closes,omitempty"`     // the last closes, losses and refusals

	// Message asks why they did not get it.
	Message *InspectMessage `json:"message,omitempty"`
}

// InspectMessage is a message that somebody may have missed; its channel is Channel.
type InspectMessage struct {
	Epoch string    `json:"epoch"`
	Seq   uint64    `json:"seq"`
	At    time.Time `json:"at"` // when it was stored; zero: not known
	// Criteria, an object as in an envelope, say whom it is for; nil for all, or if
	// that is not known.
	Criteria json.RawMessage `json:"criteria,omitempty"`
}

// Inspected is what one node says.
type Inspected struct {
	Clients  []InspectedClient  `json:"clients,omitempty"`
	Closes   []InspectedClose   `json:"closes,omitempty"`   // newest first
	Losses   []InspectedLoss    `json:"losses,omitempty"`   // likewise
	Refusals []InspectedRefusal `json:"refusals,omitempty"` // likewise
	Count    int                `json:"count"`              // connections, also those that are not listed
	Cut      bool               `json:"cut,omitempty"`      // there is more than is listed
	// These tell since when the node knows all of them.
	ClosesSince   time.Time `json:"closesSince"`
	LossesSince   time.Time `json:"lossesSince"`
	RefusalsSince time.Time `json:"refusalsSince"`
}

// InspectedClient is one connection.
type InspectedClient struct {
	Node        string  `json:"node"`
	ClientID    string  `json:"clientId"`
	Subject     *string `json:"sub"`  // of its token; nil: nobody's, or not known
	Kind        string  `json:"kind"` // sse or poll
	Wrap        bool    `json:"wrap,omitempty"`
	ConnectedAt string  `json:"connectedAt"` // RFC 3339, to the second
	TokenUntil  *string `json:"tokenUntil,omitempty"`
	Status      string  `json:"status"`
	// Began is the position that it came with, or found; LastID the last that it was
	// given.
	Began  *string        `json:"began"`
	LastID *string        `json:"lastId"`
	Behind *InspectBehind `json:"behind"` // nil: it has all that the node has
	// Unsettled says that events go without ids, until the next pulse.
	Unsettled bool             `json:"unsettled,omitempty"`
	Channels  []InspectChannel `json:"channels"`
	Patterns  []InspectChannel `json:"patterns"`
	// Attributes are what criteria are compared with; values only if they were asked for.
	Attributes map[string][]string `json:"attributes,omitempty"`
	Why        *InspectWhy         `json:"why,omitempty"`
}

// InspectBehind is what a connection has yet to get.
type InspectBehind struct {
	// Why is socket-full, beginning, replaying or waiting-for-history.
	Why string `json:"why"`
	// Seconds is for how long its socket has been too full for it to catch up, Silent
	// since when it took something.
	Seconds float64 `json:"seconds"`
	Silent  float64 `json:"silentSeconds"`
	// Begun are bytes of what is partly written, Events and Bytes what else the node has
	// in memory for it.
	Begun  int   `json:"begunBytes"`
	Events int   `json:"events"`
	Bytes  int64 `json:"bytes"`
	// More says that there is more: in the stream, or more than was counted.
	More bool `json:"more,omitempty"`
	// Position is the id up to which it has everything.
	Position *string `json:"position"`
}

// InspectChannel is one subscription of a connection.
type InspectChannel struct {
	Name     string `json:"name"`
	History  bool   `json:"history"`
	Priority string `json:"priority,omitempty"` // if it is not normal
	Throttle string `json:"throttle,omitempty"`
	// Held tells how many events throttle= holds back now, for everybody.
	Held int `json:"held,omitempty"`
	// Owed is how many events in memory the connection has yet to get, Stream that
	// there are others in the stream.
	Owed   int  `json:"owed,omitempty"`
	Stream bool `json:"stream,omitempty"`
	// Aside says that some of it was given, or skipped, out of its turn.
	Aside bool `json:"aside,omitempty"`
}

// InspectWhy is what is known of a message and a connection.
type InspectWhy struct {
	What string `json:"what"` // one word
	Says string `json:"says"`
}

// InspectedClose is a stream that was closed.
type InspectedClose struct {
	Node        string  `json:"node"`
	ClientID    string  `json:"clientId"`
	Subject     *string `json:"sub"`
	Reason      string  `json:"reason"`
	Cause       string  `json:"cause,omitempty"`
	ConnectedAt string  `json:"connectedAt"` // RFC 3339, to the second
	ClosedAt    string  `json:"closedAt"`
	LastID      *string `json:"lastId"`
	// UnsentEvents and UnsentBytes are what the node had in memory for it and it had not
	// taken; UnsentMore that there was more than was counted, or in the stream.
	UnsentEvents int         `json:"unsentEvents"`
	UnsentBytes  int64       `json:"unsentBytes"`
	UnsentMore   bool        `json:"unsentMore,omitempty"`
	Behind       float64     `json:"behindSeconds,omitempty"` // for how long its socket was too full
	Status       string      `json:"status"`                  // when it was closed
	Channels     []string    `json:"channels"`                // as many as were noted
	Patterns     []string    `json:"patterns"`
	More         int         `json:"more,omitempty"` // others
	Why          *InspectWhy `json:"why,omitempty"`
}

// InspectedRefusal is a request for events that was refused, or sent away.
type InspectedRefusal struct {
	Node     string `json:"node"`
	ClientID string `json:"clientId"` // that it came with; "" for none
	At       string `json:"at"`
	What     string `json:"what"` // unauthorized, forbidden, limit, not-ready or bad-request
	Detail   string `json:"detail,omitempty"`
}

// InspectedLoss is a gap that one client was told.
type InspectedLoss struct {
	Node     string   `json:"node"`
	ClientID string   `json:"clientId"`
	Subject  *string  `json:"sub"`
	At       string   `json:"at"`
	Reason   string   `json:"reason"`
	From     *string  `json:"from"`
	To       *string  `json:"to"`
	Channels []string `json:"channels"` // as many as were noted
	Patterns []string `json:"patterns"`
	More     int      `json:"more,omitempty"`
}
