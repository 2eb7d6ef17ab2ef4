package event

import "encoding/json"

// Wrap is the reverse of Parse for data that is JSON already: the envelope has
// data and criteria (nil: none) byte for byte as they are, so they must be valid.
func Wrap(name string, data, criteria json.RawMessage) []byte {
	quoted, _ := json.Marshal(name) // strings always marshal
	b := make([]byte, 0, len(quoted)+len(data)+len(criteria)+len(`{"event":,"data":,"criteria":}`))
	b = append(append(b, `{"event":`...), quoted...)
	b = append(append(b, `,"data":`...), data...)
	if criteria != nil {
		b = append(append(b, `,"criteria":`...), criteria...)
	}
	return append(b, '}')
}
