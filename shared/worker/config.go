package worker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/kelseyhightower/envconfig"
)

// Validator is a worker's settings: a struct whose fields carry envconfig tags
// (default, desc) and which can say what is wrong with a combination of values.
type Validator interface{ Validate() error }

// unset is a prefix under which nobody sets a variable: processing under it
// fills a struct from its default tags alone.
const unset = "SLUICE_DEFAULTS_ONLY"

// Default returns settings as they are when no variable is set. Tests and the
// local runner start from it and change what they need. It panics when a
// default tag does not parse, which is a mistake in the program.
func Default[C any]() C {
	var c C
	if err := envconfig.Process(unset, &c); err != nil {
		panic(fmt.Sprintf("default settings of %T: %v", c, err))
	}
	return c
}

// Load reads settings from the environment. The error names the variable, its
// value and what would be right.
func Load[C any]() (C, error) {
	var c C
	if err := envconfig.Process("", &c); err != nil {
		return c, explain(err)
	}
	if v, ok := any(&c).(Validator); ok {
		if err := v.Validate(); err != nil {
			return c, err
		}
	}
	return c, nil
}

// explain turns envconfig's error into one a person can act on.
func explain(err error) error {
	var p *envconfig.ParseError
	if !errors.As(err, &p) {
		return err
	}
	want := map[string]string{
		"bool":          "true or false",
		"int":           "a whole number",
		"int64":         "a whole number",
		"uint64":        "a whole number",
		"float64":       "a number",
		"time.Duration": "a duration such as 250ms, 30s or 10m",
	}[p.TypeName]
	if want == "" {
		// Types that parse themselves say what they want in their own error.
		return fmt.Errorf("%s=%q: %w", p.KeyName, p.Value, p.Err)
	}
	return fmt.Errorf("%s=%q: want %s", p.KeyName, p.Value, want)
}

// Setting is one environment variable that a worker reads.
type Setting struct {
	Key     string
	Default string
	Desc    string
}

// Settings lists the variables of C in the order of its fields.
func Settings[C any]() []Setting {
	var c C
	var list []Setting
	const row = "{{range .}}{{usage_key .}}\x1f{{usage_default .}}\x1f{{usage_description .}}\x1e{{end}}"
	var b strings.Builder
	if err := envconfig.Usagef("", &c, &b, row); err != nil {
		panic(fmt.Sprintf("settings of %T: %v", c, err))
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(b.String(), "\x1e"), "\x1e") {
		f := strings.Split(line, "\x1f")
		list = append(list, Setting{Key: f[0], Default: f[1], Desc: f[2]})
	}
	return list
}

// SettingsTable is Settings as the table of a README, which a test compares.
func SettingsTable[C any]() string {
	var b strings.Builder
	b.WriteString("| setting | default | meaning |\n|---|---|---|\n")
	for _, s := range Settings[C]() {
		def := s.Default
		if def != "" {
			def = "`" + def + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.Key, def, s.Desc)
	}
	return b.String()
}

// Usage prints the table of settings that -h shows.
func Usage[C any](w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "SETTING\tDEFAULT\tMEANING")
	for _, s := range Settings[C]() {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", s.Key, s.Default, s.Desc)
	}
	tw.Flush()
}

// Unknown returns variables of the environment that begin like settings of C
// but are none: most likely a typing error. What Kubernetes injects for a
// Service that is named like a worker is not reported.
func Unknown[C any]() []string {
	known := map[string]bool{}
	for _, s := range Settings[C]() {
		known[s.Key] = true
	}
	own := ownPrefix[C]()
	var list []string
	for _, kv := range os.Environ() {
		k, _, _ := strings.Cut(kv, "=")
		if own == "" || !strings.HasPrefix(k, own) || known[k] || injected(strings.TrimPrefix(k, own)) {
			continue
		}
		list = append(list, k)
	}
	return list
}

// injected tells the variables of a Kubernetes Service by their form.
func injected(rest string) bool {
	return rest == "PORT" || strings.HasPrefix(rest, "PORT_") || strings.HasPrefix(rest, "SERVICE_")
}

// ownPrefix is the prefix of the worker's own group of settings: the last
// struct field of C, by convention.
func ownPrefix[C any]() string {
	t := reflect.TypeFor[C]()
	if t.Kind() != reflect.Struct || t.NumField() == 0 {
		return ""
	}
	f := t.Field(t.NumField() - 1)
	if f.Type.Kind() != reflect.Struct {
		return ""
	}
	return strings.ToUpper(f.Name) + "_"
}
