package publisher

import (
	"flag"
	"io"
	"slices"
	"testing"
)

func TestFlagsStandAnywhere(t *testing.T) {
	f := func(args []string, wantRest []string, wantName string, wantN int, wantOn bool) {
		t.Helper()
		fs := flag.NewFlagSet("x", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		name, n, on := fs.String("event", "", ""), fs.Int("n", 1, ""), fs.Bool("on", false, "")
		rest, err := parse(fs, args)
		if err != nil {
			t.Errorf("%q: %v", args, err)
			return
		}
		if !slices.Equal(rest, wantRest) || *name != wantName || *n != wantN || *on != wantOn {
			t.Errorf("%q: got %q, -event %q, -n %d, -on %v; want %q, %q, %d, %v", args, rest, *name, *n, *on, wantRest, wantName, wantN, wantOn)
		}
	}
	type l = []string
	f(l{"c", "d"}, l{"c", "d"}, "", 1, false)
	f(l{"-n", "3", "c", "d"}, l{"c", "d"}, "", 3, false)
	f(l{"c", "-n", "3", "d"}, l{"c", "d"}, "", 3, false)
	f(l{"c", "d", "--n=3", "-event", "e"}, l{"c", "d"}, "e", 3, false)
	f(l{"c", "-on", "d"}, l{"c", "d"}, "", 1, true)
	f(l{"c", "-on=false", "d"}, l{"c", "d"}, "", 1, false)
	f(l{"c", "-"}, l{"c", "-"}, "", 1, false)
	f(l{"", ""}, l{"", ""}, "", 1, false)
	f(l{"c", "--", "-n"}, l{"c", "-n"}, "", 1, false)
	f(l{"-event", "--", "c", "-n", "3"}, l{"c"}, "--", 3, false)
	f(l{"-event", "-n", "c"}, l{"c"}, "-n", 1, false)
	f(nil, nil, "", 1, false)

	bad := func(args ...string) {
		t.Helper()
		fs := flag.NewFlagSet("x", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		fs.Int("n", 1, "")
		if rest, err := parse(fs, args); err == nil {
			t.Errorf("%q: got %q, want an error", args, rest)
		}
	}
	bad("c", "-x")
	bad("c", "-n")
	bad("c", "-n", "many")
	bad("c", "---n", "3")
}
