package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	strict "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"sluice/deploy/program"
)

// chart is as much of the values of the NATS chart as ours set, by the names that its
// values.yaml has (1.x). Helm takes any name and does nothing with those that the chart
// does not know, so whoever sets another one adds it here, after a look into the chart.
type chart struct {
	Config struct {
		Cluster struct {
			Enabled  bool `json:"enabled"`
			Replicas int  `json:"replicas"`
		} `json:"cluster"`
		JetStream struct {
			Enabled     bool `json:"enabled"`
			MemoryStore struct {
				Enabled bool              `json:"enabled"`
				MaxSize resource.Quantity `json:"maxSize"`
			} `json:"memoryStore"`
			FileStore struct {
				Enabled bool `json:"enabled"`
				PVC     struct {
					Size resource.Quantity `json:"size"`
				} `json:"pvc"`
			} `json:"fileStore"`
		} `json:"jetstream"`
		Merge map[string]any `json:"merge"` // of the server's configuration
	} `json:"config"`
	Container struct {
		Env   map[string]variable `json:"env"`
		Merge core.Container      `json:"merge"`
	} `json:"container"`
	PodTemplate struct {
		Spread map[string]core.TopologySpreadConstraint `json:"topologySpreadConstraints"` // by topologyKey
	} `json:"podTemplate"`
}

// variable is a container's, of which the chart has the name already: a value, or where
// it comes from.
type variable struct{ core.EnvVar }

func (v *variable) UnmarshalJSON(text []byte) error {
	if err := json.Unmarshal(text, &v.Value); err == nil {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(&v.EnvVar)
}

// readChart decodes the values; it refuses fields that the chart does not have, and fields
// that come twice.
func readChart(text []byte) (c chart, err error) {
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return c, err
	}
	unknown, err := strict.UnmarshalStrict(asJSON, &c)
	if err == nil && len(unknown) > 0 {
		err = unknown[0]
	}
	return c, err
}

// fits compares what the servers are with what the bridges of the base store there, and
// with what the README makes.
func (c *chart) fits(fs filesys.FileSystem, p *problems) {
	f, err := bridgeFacts(fs)
	if err != nil {
		p.add("%v", err)
		return
	}
	if n := c.Config.Cluster.Replicas; !c.Config.Cluster.Enabled || n < f.Replicas {
		p.add("a cluster of %d servers, and BRIDGE_REPLICAS is %d", n, f.Replicas)
	}
	js := &c.Config.JetStream
	room := js.MemoryStore.MaxSize
	if f.File {
		room = js.FileStore.PVC.Size
	}
	// As the bridge does, which takes no more than that.
	if most := room.Value() / 10 * 4; !js.Enabled || !js.MemoryStore.Enabled || !js.FileStore.Enabled || most < f.Bytes {
		p.add("JetStream has room for a stream of %d bytes, and BRIDGE_MAX_BYTES is %d", most, f.Bytes)
	}
	if s, found := c.PodTemplate.Spread[core.LabelHostname]; !found || s.MaxSkew != 1 || s.WhenUnsatisfiable != core.DoNotSchedule {
		p.add("two servers may be on one machine")
	}
	memory("the servers", &c.Container.Merge, c.Container.Env["GOMEMLIMIT"].Value, p)
	readme, err := fs.ReadFile(at("README.md"))
	if err != nil {
		p.add("%v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Container.Env)) {
		v := c.Container.Env[name]
		if v.ValueFrom == nil {
			continue
		}
		ref := v.ValueFrom.SecretKeyRef
		if ref == nil || !strings.Contains(string(readme), "create secret generic "+ref.Name+" ") || !strings.Contains(string(readme), "--from-file="+ref.Key+"=") {
			p.add("the README does not make the Secret that %s comes from", name)
		}
	}
}

// bridgeFacts are what the base's bridges do with their settings.
func bridgeFacts(fs filesys.FileSystem) (program.Facts, error) {
	env := map[string]string{}
	for _, file := range []string{"base/shared.env", "base/bridge.env"} {
		text, err := fs.ReadFile(at(file))
		if err != nil {
			return program.Facts{}, err
		}
		for line := range strings.Lines(string(text)) {
			if key, value, found := strings.Cut(strings.TrimSpace(line), "="); found && key[0] != '#' {
				env[key] = value
			}
		}
	}
	f, err := program.All["bridge"].Read(env)
	if err != nil {
		return f, fmt.Errorf("bridge: %w", err)
	}
	return f, nil
}
