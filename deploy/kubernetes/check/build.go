package check

import (
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const (
	// root is where deploy/kubernetes lies in the file systems that are checked.
	root          = "/sluice/deploy/kubernetes/"
	kustomization = "kustomization.yaml"
)

// at is the place of a directory or file: of those that are not the README's example,
// below root.
func at(name string) string {
	if path.IsAbs(name) {
		return name
	}
	return root + name
}

// objects are what one build would create.
type objects struct {
	namespaces  []*core.Namespace
	deployments []*apps.Deployment
	services    []*core.Service
	configs     map[string]*core.ConfigMap
	budgets     []*policy.PodDisruptionBudget
	policies    []*networking.NetworkPolicy
	monitors    []*monitoring.ServiceMonitor
	hpas        []*autoscaling.HorizontalPodAutoscaler
	scaled      []*ScaledObject
}

// build runs kustomize in dir and decodes the result; nil if that fails.
func build(fs filesys.FileSystem, dir string, p *problems) *objects {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, at(dir))
	if err != nil {
		p.add("kustomize: %v", err)
		return nil
	}
	text, err := built.AsYaml()
	if err != nil {
		p.add("kustomize: %v", err)
		return nil
	}
	list, err := decode(text)
	if err != nil {
		p.add("built: %v", err)
		return nil
	}
	o := &objects{configs: map[string]*core.ConfigMap{}}
	for _, x := range list {
		switch x := x.(type) {
		case *core.Namespace:
			o.namespaces = append(o.namespaces, x)
		case *apps.Deployment:
			o.deployments = append(o.deployments, x)
		case *core.Service:
			o.services = append(o.services, x)
		case *core.ConfigMap:
			o.configs[x.Name] = x
		case *policy.PodDisruptionBudget:
			o.budgets = append(o.budgets, x)
		case *networking.NetworkPolicy:
			o.policies = append(o.policies, x)
		case *monitoring.ServiceMonitor:
			o.monitors = append(o.monitors, x)
		case *autoscaling.HorizontalPodAutoscaler:
			o.hpas = append(o.hpas, x)
		case *ScaledObject:
			o.scaled = append(o.scaled, x)
		default:
			// A Secret above all: they are made by the operator.
			p.add("%s has no place here", x.GetObjectKind().GroupVersionKind().Kind)
		}
	}
	return o
}

// files decodes every manifest by itself, and compares each kustomization with the files
// that lie beside it: none is forgotten, none is missing.
func files(fs filesys.FileSystem, p *problems) {
	seen := map[string]map[string]bool{} // of directories: the files beside a kustomization
	err := fs.Walk(path.Clean(root), func(name string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		dir, base := path.Split(strings.TrimPrefix(name, root))
		dir = path.Clean(dir)
		if dir == "." || dir == path.Dir(natsValues) { // prose, and values of a chart
			return nil
		}
		if seen[dir] == nil {
			seen[dir] = map[string]bool{}
		}
		seen[dir][base] = true
		p.where = path.Join(dir, base)
		if base == kustomization || path.Ext(base) != ".yaml" {
			return nil
		}
		text, err := fs.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := decode(text); err != nil {
			p.add("%v", err)
		}
		return nil
	})
	if err != nil {
		p.add("%v", err)
	}
	for _, dir := range slices.Sorted(maps.Keys(seen)) {
		p.where = dir
		if !seen[dir][kustomization] {
			p.add("no %s", kustomization)
			continue
		}
		p.where = path.Join(dir, kustomization)
		text, err := fs.ReadFile(at(p.where))
		if err != nil {
			p.add("%v", err)
			continue
		}
		var k types.Kustomization
		if err := k.Unmarshal(text); err != nil {
			p.add("%v", err)
			continue
		}
		named := map[string]bool{kustomization: true}
		for _, r := range k.Resources {
			named[r] = true
		}
		for _, g := range k.ConfigMapGenerator {
			for _, f := range slices.Concat(g.EnvSources, g.FileSources) {
				named[f] = true
			}
		}
		for _, patch := range k.Patches {
			if patch.Path != "" {
				named[patch.Path] = true
			}
		}
		for f := range seen[dir] {
			if !named[f] {
				p.add("does not name %s", f)
			}
		}
	}
}
