package observability

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Whether an expression is PromQL is promtool's to say. What it cannot know is whether
// there are such metrics and labels: for that the names have to be found in it.

// selector is a metric in an expression, with what is asked of its labels.
type selector struct {
	metric   string
	matchers []matcher
}

// matcher is one of `label op "value"`.
type matcher struct{ label, op, value string }

var token = regexp.MustCompile("^(?:" + strings.Join([]string{
	`\s+`, `#[^\n]*`, `"(?:[^"\\]|\\.)*"`, `'(?:[^'\\]|\\.)*'`, `[a-zA-Z_:][\w:]*`, `\[[^\]]*\]`, `[0-9.]\w*`, `=~|!~|[!=<>]=`, `.`,
}, "|") + ")")

// Words that are no metrics: operators, and those before a list of labels.
var (
	operators = []string{"and", "or", "unless", "bool", "offset", "Inf", "NaN"}
	groupings = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
)

// tokens splits an expression, leaving out blanks and comments.
func tokens(expr string) (list []string) {
	for expr != "" {
		t := token.FindString(expr)
		if expr = expr[len(t):]; strings.TrimSpace(t) != "" && t[0] != '#' {
			list = append(list, t)
		}
	}
	return append(list, "")
}

// selectors finds the metrics of an expression, and the labels that it groups by.
func selectors(expr string) (list []selector, labels []string, err error) {
	all := tokens(expr)
	for i := 0; all[i] != ""; i++ {
		word, after := all[i], all[i+1]
		switch {
		case !isName(word) || slices.Contains(operators, word):
		case slices.Contains(groupings, word) && after == "(":
			for i++; all[i] != ")"; i++ {
				switch {
				case all[i] == "":
					return nil, nil, fmt.Errorf("%q does not end", word)
				case isName(all[i]):
					labels = append(labels, all[i])
				}
			}
		case slices.Contains(groupings, word) || after == "(" || slices.Contains(groupings, after): // a function
		default:
			s := selector{metric: word}
			if after == "{" {
				for i += 2; all[i] != "}"; i++ {
					switch {
					case all[i] == "":
						return nil, nil, fmt.Errorf("the braces of %s do not end", word)
					case isName(all[i]):
						value, err := unquote(all[min(i+2, len(all)-1)])
						if err != nil {
							return nil, nil, fmt.Errorf("%s of %s: %w", all[i], word, err)
						}
						s.matchers = append(s.matchers, matcher{all[i], all[i+1], value})
						i += 2
					}
				}
			}
			list = append(list, s)
		}
	}
	return list, labels, nil
}

var name = regexp.MustCompile(`^[a-zA-Z_:]`)

func isName(t string) bool { return name.MatchString(t) }

func unquote(t string) (string, error) {
	if len(t) > 1 && t[0] == '\'' && !strings.Contains(t, `"`) {
		t = `"` + t[1:len(t)-1] + `"`
	}
	s, err := strconv.Unquote(t)
	if err != nil {
		return "", fmt.Errorf("value %s: %w", t, err)
	}
	return s, nil
}

// exposed is the values of each label of each metric.
type exposed map[string]map[string][]string

// add notes what a line of /metrics shows, of a target of ours.
func (e exposed) add(line string) error {
	list, _, err := selectors(line)
	if err != nil || len(list) != 1 {
		return fmt.Errorf("%q: not a metric: %w", line, err)
	}
	m := list[0]
	if e[m.metric] == nil {
		e[m.metric] = map[string][]string{"job": nil, "instance": nil}
	}
	for _, l := range m.matchers {
		e[m.metric][l.label] = append(e[m.metric][l.label], l.value)
	}
	return nil
}

// check tells what an expression asks for and nobody exposes.
func (e exposed) check(expr string) error {
	list, labels, err := selectors(expr)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, s := range list {
		values := e[s.metric]
		if values == nil {
			return fmt.Errorf("nobody exposes %s", s.metric)
		}
		for label := range values {
			known[label] = true
		}
		for _, m := range s.matchers {
			have, is := values[m.label]
			if !is {
				return fmt.Errorf("%s has no label %s", s.metric, m.label)
			}
			if have != nil && !m.fits(have) {
				return fmt.Errorf("%s has no %s%s%q, only %q", s.metric, m.label, m.op, m.value, have)
			}
		}
	}
	for _, label := range labels {
		if !known[label] {
			return fmt.Errorf("no metric in it has a label %s", label)
		}
	}
	return nil
}

// fits tells whether each value that is named is there; of a pattern, each of its
// alternatives.
func (m matcher) fits(have []string) bool {
	wanted := []string{regexp.QuoteMeta(m.value)}
	if strings.HasSuffix(m.op, "~") {
		wanted = strings.Split(m.value, "|")
	}
	for _, w := range wanted {
		if !slices.ContainsFunc(have, regexp.MustCompile("^(?:"+w+")$").MatchString) {
			return false
		}
	}
	return true
}

func TestExpressions(t *testing.T) {
	e := exposed{}
	for _, line := range []string{`a_total{reason="full"} 1`, `a_total{reason="o\"ther"} 1`, `h_bucket{le="0.5"} 3`, `b 1e-09`, `up 1`} {
		if err := e.add(line); err != nil {
			t.Fatal(err)
		}
	}
	for _, right := range []string{
		`a_total`, `sum by (reason) (rate(a_total{reason="full"}[5m])) > 0`, `sum(a_total) by (instance, reason) # not c`,
		`histogram_quantile(0.99, sum by (le) (rate(h_bucket[5m] offset 1m)))`, `a_total{reason=~"full|o.*"} and on () b unless b`,
		`b{job=~".*x.*"} / b + 1e3 - Inf`, `max without (job) (b)`, `a_total{reason!~"full"}`, `(sum(b) or vector(0)) == bool 1`,
	} {
		if err := e.check(right); err != nil {
			t.Errorf("%s: %v", right, err)
		}
	}
	for _, wrong := range []string{
		`c`, `sum by (reason) (c)`, `rate(c[5m])`, `b and c`, `sum by (le) (b)`, `b{reason="full"}`, `a_total{reason="ful"}`,
		`a_total{reason=~"full|empty"}`, `sum by (reason (a_total)`, `a_total{reason="full"`, `a_total{reason=full}`,
	} {
		if err := e.check(wrong); err == nil {
			t.Errorf("%s: nothing is wrong with it", wrong)
		}
	}
}
