package check

import (
	"regexp"
	"slices"
	"strings"
)

var (
	oneCommand = regexp.MustCompile(`VERSION=\S*\s+docker compose`)
	upgrade    = regexp.MustCompile(`for service in ([\w ]+); do\n\s*docker compose up -d --no-deps --wait \$service`)
	ending     = regexp.MustCompile(`docker compose stop ([\w ]+)\ndocker compose down`)
)

// told checks the commands that people are told against the services: a new version gets
// to all of them, one after the other, and nodes drain before the balancer is stopped.
func (s *set) told() {
	for _, name := range []string{readmeFile, composeFile, composeDir + "/.env.example", composeDir + "/prepare"} {
		if said := oneCommand.FindString(s.text(name)); said != "" {
			s.add("%s: %q: the next command has the version of .env", name, said)
		}
	}
	text := s.text(readmeFile)
	named := func(commands *regexp.Regexp) []string {
		if m := commands.FindStringSubmatch(text); m != nil {
			return strings.Fields(m[1])
		}
		return nil
	}
	upgraded, stopped := named(upgrade), named(ending)
	for name, c := range s.project.Services {
		kind := target(&c)
		if kind != "" && !slices.Contains(upgraded, name) {
			s.add("%s: nobody is told to start a new version of %s, and to wait for it", readmeFile, name)
		}
		if kind == "ssenode" && !slices.Contains(stopped, name) {
			s.add("%s: nobody is told to stop %s before the balancer", readmeFile, name)
		}
	}
}
