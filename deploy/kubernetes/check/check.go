// Package check reads the manifests of deploy/kubernetes as a cluster and the programs
// would, and says what is wrong with them: files are decoded strictly into the types of
// Kubernetes, built by kustomize's own library, and what is built is compared with what
// the programs really know: settings, ports, paths, metrics, drain times.
//
// It is a module of its own, so that Kubernetes' libraries are no dependency of Sluice.
// When the versions in Sluice's go.mod change, `go mod tidy` here follows.
package check

import (
	"fmt"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// builds are the directories of which each is a whole that can be applied.
var builds = []string{"base", "overlays/hpa", "overlays/keda", example}

// example is where the kustomization of the README is put.
const example = "/mine/sluice"

// Problems returns what is wrong with the manifests in fs, in plain words, each once.
// metrics are the names of those that a node has.
func Problems(fs filesys.FileSystem, metrics []string) []string {
	p := &problems{}
	secrets := readme(fs, p)
	files(fs, p)
	for _, dir := range builds {
		p.where = dir
		if o := build(fs, dir, p); o != nil {
			o.links(p)
			o.safety(p)
			o.settings(secrets, p)
			o.scaling(metrics, p)
		}
	}
	p.where = natsValues
	nats(fs, p)
	return p.list
}

// problems collects them.
type problems struct {
	where string          // file or directory that is looked at
	said  map[string]bool // without where: what is wrong with the base is so in all overlays
	list  []string
}

func (p *problems) add(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.said[text] {
		return
	}
	if p.said == nil {
		p.said = map[string]bool{}
	}
	p.said[text] = true
	p.list = append(p.list, p.where+": "+text)
}
