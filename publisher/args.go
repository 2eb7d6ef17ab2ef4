package publisher

import (
	"flag"
	"strings"
)

// parse reads flags that may stand before, between and after the other
// arguments, which it returns. (fs.Parse alone stops at the first of those.)
// After "--" nothing is a flag; "-" alone and an empty argument are none.
func parse(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for len(args) > 0 {
		a := args[0]
		if a == "--" {
			return append(rest, args[1:]...), nil
		}
		if len(a) < 2 || a[0] != '-' {
			rest = append(rest, a)
			args = args[1:]
			continue
		}
		// One flag at a time, so that its value is never taken for "--".
		n := 1
		if f := fs.Lookup(strings.TrimLeft(a, "-")); f != nil && !isSwitch(f) {
			n = min(2, len(args))
		}
		if err := fs.Parse(args[:n]); err != nil {
			return nil, err
		}
		args = args[n:]
	}
	return rest, nil
}

// isSwitch tells flags without a value, by the method that package flag itself
// goes by.
func isSwitch(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}
