// Package check reads deploy/compose and deploy/docker as Docker and the programs would,
// and says what is wrong with them: the compose file by compose-go, strictly, the
// Dockerfile by BuildKit's parser, and both are compared with what the programs really
// know. Its tests then start the very services of the compose file as processes, with the
// same loader, and prove that they work together. There is no container engine.
//
// It is a module of its own, so that these libraries are no dependency of Sluice. When the
// versions in Sluice's go.mod change, `go mod tidy` here follows.
package check

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// Paths in the repository.
const (
	composeDir  = "deploy/compose"
	composeFile = composeDir + "/compose.yaml"
	readmeFile  = composeDir + "/README.md"
	dockerFile  = "deploy/docker/Dockerfile"
	ignoreFile  = ".dockerignore"
)

// set is all that is looked at.
type set struct {
	root    string // of the repository, or of a copy
	project *types.Project
	image   *image
	list    []string
}

// Problems returns what is wrong with the files below root, which is a repository in which
// deploy/compose/prepare was run, in plain words.
func Problems(ctx context.Context, root string) []string {
	s := &set{root: root}
	var err error
	if s.image, err = readImage(filepath.Join(root, dockerFile)); err != nil {
		s.add("%s: %v", dockerFile, err)
		return s.list
	}
	s.stages()
	s.context()
	if s.project, err = Load(ctx, root); err != nil {
		s.add("%s: %v", composeFile, err)
		return s.list
	}
	s.variables()
	s.users()
	s.told()
	for _, name := range s.project.ServiceNames() {
		service := s.project.Services[name]
		s.service(&service)
		s.program(&service)
	}
	s.balancer()
	s.capacity()
	s.prometheus()
	return s.list
}

// add notes a problem, each once: services with an anchor in common have it in common.
func (s *set) add(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(s.list, text) {
		s.list = append(s.list, text)
	}
}

// text is a file's, or empty with a problem.
func (s *set) text(name string) string {
	b, err := os.ReadFile(filepath.Join(s.root, name))
	if err != nil {
		s.add("%v", err)
	}
	return string(b)
}

// optional is a file's text, or empty.
func (s *set) optional(name string) string {
	b, _ := os.ReadFile(filepath.Join(s.root, name))
	return string(b)
}

// env is a service's environment; what has no value in the file is left out.
func env(service *types.ServiceConfig) map[string]string {
	m := map[string]string{}
	for key, value := range service.Environment {
		if value != nil {
			m[key] = *value
		}
	}
	return m
}

// target is the image of this repository that a service runs, "" for others.
func target(service *types.ServiceConfig) string {
	if service.Build == nil {
		return ""
	}
	return service.Build.Target
}

// listens tells whether a service says that it has this port.
func listens(service *types.ServiceConfig, port string) bool {
	return slices.Contains(service.Expose, port)
}

// meet tells whether two services have a network in common.
func meet(a, b *types.ServiceConfig) bool {
	for name := range a.Networks {
		if _, found := b.Networks[name]; found {
			return true
		}
	}
	return false
}

// reaches checks that one service can connect to host:port of another one. what is why.
func (s *set) reaches(from *types.ServiceConfig, what, host, port string) {
	to, found := s.project.Services[host]
	switch {
	case !found:
		s.add("%s: %s names %s, which is no service", from.Name, what, host)
	case !listens(&to, port):
		s.add("%s: %s names port %s of %s, which it does not expose", from.Name, what, port, host)
	case !meet(from, &to):
		s.add("%s: %s names %s, with which it has no network in common", from.Name, what, host)
	}
}

// list is what commas separate.
func list(text string) []string { return strings.Split(text, ",") }
