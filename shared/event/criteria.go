package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Criteria are conditions on the attributes of a client; all must hold for it to get
// the event. Without any everybody gets it.
type Criteria []Criterion

// Criterion holds for a client that has one of the values under the name.
type Criterion struct {
	Name   string
	Values []string // none: it holds for nobody
}

// Bounds of criteria; beyond them they are refused, since each client's attributes
// are compared with all of them.
const (
	maxCriteria = 32  // names
	maxValues   = 256 // of all names together
)

// ParseCriteria reads the `criteria` of an envelope: an object of names to a text, a
// number or a truth value (equal), or to an array of these (one of). Numbers are
// compared as they are written. The criteria are in the order of their names.
func ParseCriteria(raw json.RawMessage) (Criteria, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		return nil, errors.New(`want an object of attributes, each a text, number, true, false or an array of these, such as {"role":["admin","ops"]}`)
	}
	if len(m) > maxCriteria {
		return nil, fmt.Errorf("%d attributes, at most %d", len(m), maxCriteria)
	}
	list, all := make(Criteria, 0, len(m)), 0
	for name, value := range m {
		values, err := criterion(value)
		if err != nil {
			return nil, fmt.Errorf("attribute %.100q: %w", name, err)
		}
		if all += len(values); all > maxValues {
			return nil, fmt.Errorf("more than %d values", maxValues)
		}
		list = append(list, Criterion{name, values})
	}
	slices.SortFunc(list, func(a, b Criterion) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func criterion(value json.RawMessage) ([]string, error) {
	if value[0] != '[' {
		text, err := scalar(value)
		return []string{text}, err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(value, &list); err != nil {
		return nil, err
	}
	values := make([]string, 0, len(list))
	for _, e := range list {
		text, err := scalar(e)
		if err != nil {
			return nil, err
		}
		values = append(values, text)
	}
	return values, nil
}

// scalar is the text of a text, a number as it is written, or a truth value.
func scalar(value json.RawMessage) (text string, err error) {
	switch value[0] {
	case '"':
		err = json.Unmarshal(value, &text)
		return text, err
	case '{', '[', 'n':
		return "", fmt.Errorf("want a text, a number, true or false, or an array of these")
	}
	return string(value), nil
}
