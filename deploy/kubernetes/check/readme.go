package check

import (
	"regexp"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

var (
	// secret is a Secret as the README makes it: a file of settings, by here-document.
	secret = regexp.MustCompile(`(?s)cat >(\S+)\.env <<EOF\n(.*?)\nEOF\n`)
	// drawn is where the shell puts in a password or key.
	drawn = regexp.MustCompile(`\$\([^)]*\)`)
	// block is the README's kustomization.yaml.
	block = regexp.MustCompile("(?s)```yaml\n# mine/sluice/kustomization.yaml\n(.*?)```")
)

// readme takes from the README what its reader types: the settings of each Secret, and
// the kustomization, which it writes into fs.
func readme(fs filesys.FileSystem, p *problems) map[string]map[string]string {
	p.where = "README.md"
	secrets := map[string]map[string]string{}
	text, err := fs.ReadFile(at(p.where))
	if err != nil {
		p.add("%v", err)
		return nil
	}
	for _, m := range secret.FindAllStringSubmatch(string(text), -1) {
		name, env := m[1], map[string]string{}
		for line := range strings.SplitSeq(m[2], "\n") {
			key, value, found := strings.Cut(line, "=")
			if !found {
				p.add("%s: %q is no setting", name, line)
			}
			env[key] = drawn.ReplaceAllString(value, strings.Repeat("6b", 24))
		}
		secrets[name] = env
		if want := "create secret generic " + name + " --from-env-file=" + name + ".env"; !strings.Contains(string(text), want) {
			p.add("%s is not made: no %q", name, want)
		}
	}
	m := block.FindStringSubmatch(string(text))
	if m == nil {
		p.add("no mine/sluice/kustomization.yaml")
		return secrets
	}
	if err := fs.WriteFile(example+"/"+kustomization, []byte(m[1])); err != nil {
		p.add("%v", err)
	}
	return secrets
}
