package check

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"
)

// Load reads the compose file below root as Docker does, with the variables of .env and no
// others: keys that do not exist, variables without a value, services, networks and
// volumes that are not there are errors.
func Load(ctx context.Context, root string) (*types.Project, error) {
	dir, err := filepath.Abs(filepath.Join(root, composeDir))
	if err != nil {
		return nil, err
	}
	variables, err := dotenv.Read(filepath.Join(dir, ".env"))
	if err != nil {
		return nil, err
	}
	return loader.LoadWithContext(ctx, types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(root, composeFile)}},
		Environment: variables,
	}, func(o *loader.Options) { o.ResolvePaths = true })
}

// variables compares those that the compose file asks for with those that .env.example
// explains, and looks for passwords that stand in the files themselves.
func (s *set) variables() {
	var model map[string]any
	if err := yaml.Unmarshal([]byte(s.text(composeFile)), &model); err != nil {
		s.add("%s: %v", composeFile, err)
		return
	}
	const example = composeDir + "/.env.example"
	offered, err := dotenv.Read(filepath.Join(s.root, example))
	if err != nil {
		s.add("%v", err)
		return
	}
	asked := template.ExtractVariables(model, template.DefaultPattern)
	for name := range asked {
		if _, found := offered[name]; !found {
			s.add("%s: nobody tells of %s, which %s asks for", example, name, composeFile)
		}
	}
	made, err := dotenv.Read(filepath.Join(s.root, composeDir, ".env"))
	if err != nil {
		s.add("%v", err)
		return
	}
	for name, value := range offered {
		variable, found := asked[name]
		secret := hidden(name)
		switch {
		case !found && !strings.HasPrefix(name, "REDIS_"):
			s.add("%s: nobody asks for %s", example, name)
		case secret && value != "":
			s.add("%s: %s has a value that everyone knows", example, name)
		case secret && !variable.Required && !anyRequired(s.text(composeFile), name):
			s.add("%s: without %s it would start all the same", composeFile, name)
		case secret && len(made[name]) < 32:
			s.add("prepare: %s is too short", name)
		}
	}
	for _, service := range s.project.Services {
		for key, value := range env(&service) {
			if hidden(key) && !contains(made, value) {
				s.add("%s: %s stands in %s", service.Name, key, composeFile)
			}
			for _, m := range login.FindAllStringSubmatch(value, -1) {
				if !contains(made, m[1]) {
					s.add("%s: the password in %s stands in %s", service.Name, key, composeFile)
				}
			}
		}
	}
}

// login has the password of a URL.
var login = regexp.MustCompile(`://[^:/@\s]*:([^@\s]*)@`)

// anyRequired: of several mentions of a variable one has to be with :?.
func anyRequired(text, name string) bool { return strings.Contains(text, "${"+name+":?") }

// hidden tells variables that hold a secret by their names.
func hidden(name string) bool {
	for _, word := range []string{"SECRET", "API_KEYS", "PASSWORD"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

func contains(m map[string]string, value string) bool {
	for _, v := range m {
		if v == value {
			return true
		}
	}
	return false
}

// users compares the users of Redis that prepare makes with those of deploy/README.md,
// with which the programs are tested.
func (s *set) users() {
	b, err := os.ReadFile(filepath.Join(s.root, composeDir, "secrets/users.acl"))
	if err != nil {
		s.add("%v", err)
		return
	}
	redis := s.project.Services["redis"]
	if !contains(env(&redis), fmt.Sprintf("%x", sha256.Sum256(b))) {
		s.add("redis: nothing of it changes with users.acl, so `up` would leave it with the old ones")
	}
	told := s.text("deploy/README.md")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 || f[0] != "user" {
			s.add("users.acl: %q is no user", line)
			continue
		}
		rights := strings.Join(f[4:], " ")
		switch {
		case f[1] == "default":
			if f[3] != "nopass" || rights != "-@all +ping" {
				s.add("users.acl: without a login one may %s", rights)
			}
		case !strings.HasPrefix(f[3], "#"):
			s.add("users.acl: the password of %s is not hashed", f[1])
		default:
			// In the README names are padded.
			if want := fmt.Sprintf("ACL SETUSER %-9s on >password %s\n", f[1], rights); !strings.Contains(told, want) {
				s.add("users.acl: %s has other rights than in deploy/README.md: %s", f[1], rights)
			}
		}
	}
}
