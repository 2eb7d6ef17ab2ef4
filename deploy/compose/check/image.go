package check

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"sluice/deploy/program"
)

// image is a Dockerfile as BuildKit reads it.
type image struct {
	stages []instructions.Stage
	said   []string // by BuildKit's linter
}

func readImage(file string) (*image, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	parsed, err := parser.Parse(f)
	if err != nil {
		return nil, err
	}
	i := &image{}
	for _, w := range parsed.Warnings {
		i.said = append(i.said, w.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, text string, _ []parser.Range) {
		i.said = append(i.said, rule+": "+text)
	}})
	i.stages, _, err = instructions.Parse(parsed.AST, lint)
	return i, err
}

// stage is one of the file, by its name; nil if there is none.
func (i *image) stage(name string) *instructions.Stage {
	for n := range i.stages {
		if i.stages[n].Name == name {
			return &i.stages[n]
		}
	}
	return nil
}

// all are the commands of a stage and of those that it is made from, the first ones first.
func (i *image) all(name string) []instructions.Command {
	stage := i.stage(name)
	if stage == nil {
		return nil
	}
	return append(i.all(stage.BaseName), stage.Commands...)
}

// runtime is what a container of a stage is started with.
type runtime struct {
	base       string // what the first stage is made from
	user       string
	entrypoint []string
	command    []string
	health     []string // as in Docker: CMD and arguments
	files      map[string]string
}

// run puts together what Docker would.
func (i *image) run(name string) runtime {
	r := runtime{files: map[string]string{}}
	for stage := i.stage(name); stage != nil; stage = i.stage(stage.BaseName) {
		r.base = stage.BaseName
	}
	for _, c := range i.all(name) {
		switch c := c.(type) {
		case *instructions.UserCommand:
			r.user = c.User
		case *instructions.EntrypointCommand:
			r.entrypoint, r.command = c.CmdLine, nil
		case *instructions.CmdCommand:
			r.command = c.CmdLine
		case *instructions.HealthCheckCommand:
			r.health = c.Health.Test
		case *instructions.CopyCommand:
			for _, from := range c.SourcePaths {
				r.files[c.DestPath] = c.From + ":" + from
			}
		}
	}
	return r
}

// numbers is a user that is not root, without a file that would tell its number.
var numbers = regexp.MustCompile(`^[1-9][0-9]*:[1-9][0-9]*$`)

// stages checks the images: nothing in them but a program and authorities, nobody's user,
// a health check that needs nothing else.
func (s *set) stages() {
	for _, said := range s.image.said {
		s.add("%s: %s", dockerFile, said)
	}
	for _, stage := range s.image.stages {
		base := stage.BaseName
		if base != "scratch" && s.image.stage(base) == nil && !pinned(base) {
			s.add("%s: FROM %s has no version", dockerFile, base)
		}
		if tag, found := strings.CutPrefix(base, "golang:"); found {
			language := s.module("go")
			if minor := language[:strings.LastIndexByte(language, '.')+1]; !strings.HasPrefix(tag, minor) {
				s.add("%s: FROM %s, but go.mod says %s", dockerFile, base, language)
			}
		}
	}
	for name, p := range program.All {
		if s.image.stage(name) == nil {
			s.add("%s: no target %s", dockerFile, name)
			continue
		}
		r := s.image.run(name)
		if got := slices.Concat(r.entrypoint, r.command); !slices.Equal(got, p.Command) {
			s.add("%s: %s is started by %q, want %q", dockerFile, name, got, p.Command)
		}
		if want := []string{"CMD", p.Command[0], "health"}; !slices.Equal(r.health, want) {
			s.add("%s: HEALTHCHECK of %s is %q, want %q", dockerFile, name, r.health, want)
		}
		if want := "build:/out/" + name; r.files[p.Command[0]] != want {
			s.add("%s: %s in %s is %q, want %q", dockerFile, p.Command[0], name, r.files[p.Command[0]], want)
		}
	}
	last := s.image.stages[len(s.image.stages)-1].Name
	if s.image.run(last).files["/"] != "build:/out/" {
		s.add("%s: the last image is that of deploy/kubernetes: its programs are not below /", dockerFile)
	}
	for _, name := range append(slices.Collect(maps.Keys(program.All)), last) {
		r := s.image.run(name)
		if r.base != "scratch" {
			s.add("%s: %s is made from %s, want scratch", dockerFile, name, r.base)
		}
		if !numbers.MatchString(r.user) {
			s.add("%s: USER of %s is %q, want numbers, not root's", dockerFile, name, r.user)
		}
		if len(r.files) != 2 || r.files["/etc/ssl/certs/ca-certificates.crt"] == "" {
			s.add("%s: in %s there is %q, want a program and authorities", dockerFile, name, r.files)
		}
	}
}

// pinned tells whether an image is named with a version, down to the patch.
func pinned(name string) bool {
	_, tag, found := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ":")
	return found && exact.MatchString(tag)
}

var exact = regexp.MustCompile(`^v?\d+\.\d+\.\d+`)

// wanted is where the build context has what it is for; what else it brings is too much.
var wanted = regexp.MustCompile(`^(go\.(mod|sum)|(bridge|publisher|shared|ssenode)(/.*)?)$`)

// context checks what docker build sends: with it go no tests and nobody's secrets, and
// it has all that COPY asks for.
func (s *set) context() {
	files, err := sent(s.root)
	if err != nil {
		s.add("%s: %v", ignoreFile, err)
		return
	}
	for _, name := range files {
		if !wanted.MatchString(name) || strings.HasSuffix(name, "_test.go") {
			s.add("%s: %s is sent to the build", ignoreFile, name)
		}
	}
	for _, stage := range s.image.stages {
		for _, c := range stage.Commands {
			if arg, ok := c.(*instructions.ArgCommand); ok && strings.HasPrefix(arg.Args[0].Key, "TARGET") && arg.Args[0].Value != nil {
				s.add("%s: %s has a value, so BuildKit gives it none", dockerFile, arg.Args[0].Key)
			}
			copied, ok := c.(*instructions.CopyCommand)
			if !ok || copied.From != "" {
				if ok && s.image.stage(copied.From) == nil {
					s.add("%s: COPY --from=%s: there is no such stage", dockerFile, copied.From)
				}
				continue
			}
			for _, from := range copied.SourcePaths {
				if !slices.ContainsFunc(files, func(f string) bool { return f == from || strings.HasPrefix(f, from+"/") }) {
					s.add("%s: COPY %s: it is not sent to the build", dockerFile, from)
				}
			}
		}
	}
}

// sent lists the files below root that docker build would send, with slashes.
func sent(root string) ([]string, error) {
	f, err := os.Open(filepath.Join(root, ignoreFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	patterns, err := ignorefile.ReadAll(f)
	if err != nil {
		return nil, err
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, err
	}
	var files []string
	return files, fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".git":
			// A file in a worktree, a large directory elsewhere; never sent, or below.
			if out, err := ignored.MatchesOrParentMatches(name); err != nil || !out {
				return fmt.Errorf("%s is sent to the build (%v)", name, err)
			}
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		out, err := ignored.MatchesOrParentMatches(path.Clean(name))
		if err == nil && !out {
			files = append(files, name)
		}
		return err
	})
}
