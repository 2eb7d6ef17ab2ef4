package check

import (
	"bufio"
	"context"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/kustomize/kyaml/filesys"

	"sluice/shared/worker"
	"sluice/ssenode"
)

// The manifests are as a cluster and the programs want them.
func TestManifests(t *testing.T) {
	for _, p := range Problems(tree(t), nodeMetrics(t)) {
		t.Error(p)
	}
}

// What the check is for: each of these mistakes, alone, is found.
func TestMistakes(t *testing.T) {
	metrics := nodeMetrics(t)
	for _, m := range []struct{ file, from, to, found string }{
		{"base/bridge.yaml", "minReadySeconds:", "minReadySecond:", `unknown field "spec.minReadySecond"`},
		{"base/ssenode.yaml", "  replicas: 2\n", "  replicas: 2\n  replicas: 3\n", "mapping key \"replicas\" already defined"},
		{"base/ssenode.yaml", "            periodSeconds: 5\n", "            periodSecond: 5\n", `periodSecond"`},
		{"base/publisher.yaml", "maxUnavailable: 1\n  unhealthy", "maxUnavailable: 1\n  least: 1\n  unhealthy", `unknown field "spec.least"`},
		{"base/ssenode.yaml", "unhealthyPodEvictionPolicy", "unhealthyEvictionPolicy", "unhealthyEvictionPolicy"},
		{"base/kustomization.yaml", "  - ssenode.yaml\n", "", "does not name ssenode.yaml"},
		{"base/kustomization.yaml", "  - ssenode.yaml\n", "  - ssenodes.yaml\n", "ssenodes.yaml"},
		{"base/kustomization.yaml", "    envs: [bridge.env]", "    envs: [ssenode.env]", "does not name bridge.env"},
		{"base/kustomization.yaml", "labels:\n", "label:\n", `unknown field "label"`},
		{"base/kustomization.yaml", "newTag: unreleased", "newTag: latest", "has no version"},

		{"base/ssenode.env", "SSENODE_DRAIN_TIME=60s", "SSENODE_DRAINTIME=60s", "SSENODE_DRAINTIME is no setting of ssenode"},
		{"base/ssenode.env", "SSENODE_DRAIN_TIME=60s", "SSENODE_DRAIN_TIME=60", `SSENODE_DRAIN_TIME="60": want a duration`},
		{"base/ssenode.env", "SSENODE_DRAIN_TIME=60s", "SSENODE_DRAIN_TIME=90s", "terminationGracePeriodSeconds is not 110"},
		{"base/ssenode.env", "SSENODE_DRAIN_TIME=60s\n", "", "terminationGracePeriodSeconds is not 40"}, // the default counts
		{"base/publisher.yaml", "terminationGracePeriodSeconds: 20", "terminationGracePeriodSeconds: 15", "terminationGracePeriodSeconds is not 20"},
		{"base/shared.env", "ROUTES=", "ROUTES=a priority=urgent", "urgent"},
		{"base/shared.env", "LOG_FORMAT=json", "PUBLISHER_ADRR=:1", "PUBLISHER_ADRR is no setting"},
		{"base/shared.env", "nats://nats.nats:4222", "nats://me:hunter2@nats.nats:4222", "belongs into a Secret"},
		{"base/shared.env", "nats://nats.nats:4222", "nats.nats:4222", "NATS_URL="},
		{"base/ssenode.env", "SSENODE_ADDR=:8081", "SSENODE_ADDR=:8080", "listens on :8080"},
		{"base/bridge.env", "ADMIN_ADDR=:9101", "ADMIN_ADDR=127.0.0.1:9101", "which nobody reaches"},
		{"base/bridge.env", "ADMIN_ADDR=:9101\n", "", "which nobody reaches"}, // the default is loopback
		{"base/bridge.env", "BRIDGE_STORAGE=file", "BRIDGE_STORAGE=tape", "tape"},
		{"base/publisher.env", "PUBLISHER_DRAIN_DELAY=10s", "PUBLISHER_API_KEYS=0123456789abcdef", "belongs into a Secret"},
		{"base/ssenode.yaml", "value: 1GiB", "value: 3GiB", `GOMEMLIMIT="3GiB"`},
		{"base/ssenode.yaml", "- name: GOMEMLIMIT", "- name: GOMEMLIMITS", "GOMEMLIMITS is no setting"},
		{"base/publisher.yaml", `["/publisher", "serve"]`, `["/publisher"]`, "command"},
		{"base/bridge.yaml", "name: shared-settings", "name: share-settings", "no ConfigMap share-settings"},
		{"base/bridge.yaml", "name: bridge-secrets", "name: bridge-secret", "does not say how to make the Secret bridge-secret"},
		{"README.md", "REDIS_URL=redis://bridge:", "REDIS_UR=redis://bridge:", "REDIS_UR in the Secret bridge-secrets is no setting"},
		{"README.md", "PUBLISHER_API_KEYS=$(openssl rand -hex 24)\n", "", "without PUBLISHER_API_KEYS"},
		{"README.md", "REDIS_URL=redis://publisher:", "REDIS_URL=publisher:", "Deployment publisher: REDIS_URL"},
		{"README.md", "- ROUTES=game:> history=off", "- ROUTE=game:> history=off", "ROUTE is no setting"},
		{"README.md", "namespace: sluice\n\nresources", "namespace: events\n\nresources", "not only of namespace events"},
		{"README.md", "cat >bridge-secrets.env", "cat >bridge.env", "nobody reads the Secret bridge"},
		{"README.md", "create secret generic bridge-secrets", "create secret generic bridge", "bridge-secrets is not made"},
		{"README.md", "overlays/keda\n", "overlay/keda\n", "overlay/keda"},

		{"base/ssenode.yaml", "    metadata:\n      labels:\n        app.kubernetes.io/name: ssenode", "    metadata:\n      labels:\n        app.kubernetes.io/name: node", "does not match its own pods"},
		{"base/ssenode.yaml", "  selector:\n    app.kubernetes.io/name: ssenode\n", "  selector:\n    app.kubernetes.io/name: node\n", "Service ssenode selects 0 Deployments"},
		{"base/ssenode.yaml", "  selector:\n    matchLabels:\n      app.kubernetes.io/name: ssenode\n---\napiVersion: net", "  selector:\n    matchLabels:\n      app.kubernetes.io/name: bridge\n---\napiVersion: net", "PodDisruptionBudget ssenode does not select"},
		{"base/bridge.yaml", "  podSelector:\n    matchLabels:\n      app.kubernetes.io/name: bridge\n", "  podSelector: {}\n", "NetworkPolicy bridge does not select"},
		{"base/ssenode.yaml", "    - ports:\n        - port: http\n", "    - ports:\n        - port: https\n", "an ingress port is no port of ssenode"},
		{"base/ssenode.yaml", "          labelSelector:\n            matchLabels:\n              app.kubernetes.io/name: ssenode\n", "          labelSelector:\n            matchLabels:\n              app.kubernetes.io/name: node\n", "topologySpreadConstraint"},
		{"base/bridge.yaml", "whenUnsatisfiable: DoNotSchedule", "whenUnsatisfiable: ScheduleAnyway", "bridge: all of it may be on one machine"},
		{"base/bridge.yaml", "topologyKey: kubernetes.io/hostname", "topologyKey: kubernetes.io/os", "bridge: all of it may be on one machine"},
		{"base/ssenode.yaml", "maxSkew: 1\n          topologyKey: kubernetes.io/hostname", "maxSkew: 2\n          topologyKey: kubernetes.io/hostname", "ssenode: all of it may be on one machine"},
		{"base/bridge.yaml", "maxUnavailable: 1\n", "maxUnavailable: 0\n", "PodDisruptionBudget bridge: 0 of two pods may be away"},
		{"base/bridge.yaml", "maxUnavailable: 1\n", "minAvailable: 2\n", "PodDisruptionBudget bridge: 0 of two pods may be away"},
		{"base/ssenode.yaml", "maxUnavailable: 10%", "maxUnavailable: 60%", "PodDisruptionBudget ssenode: 2 of two pods may be away"},
		{"base/ssenode.yaml", "targetPort: http", "targetPort: https", "targetPort https is no port of ssenode"},
		{"base/ssenode.yaml", "      targetPort: http\n", "      targetPort: admin\n", "belong in headless Services"},
		{"base/bridge.yaml", "              path: /readyz\n              port: admin", "              path: /readyz\n              port: http", "the readiness probe asks port http"},
		{"base/bridge.yaml", "path: /healthz", "path: /readyz", "the liveness probe asks for /readyz"},
		{"components/prometheus/servicemonitor.yaml", "- port: admin", "- port: metrics", `has no port "metrics"`},
		{"components/prometheus/servicemonitor.yaml", "component: admin", "component: metrics", "selects 0 Services for 3"},
		{"components/prometheus/servicemonitor.yaml", "interval: 15s", "intervall: 15s", "intervall"},

		{"base/bridge.yaml", "- port: 4222", "- port: 4223", "NetworkPolicy bridge: it may not connect to port 4222"},
		{"base/publisher.yaml", "- port: 6379", "- port: 6380", "NetworkPolicy publisher: it may not connect to port 6379"},
		{"base/ssenode.yaml", "        - port: 53\n          protocol: UDP\n", "", "NetworkPolicy ssenode: it may not connect to port 53"},

		{"base/namespace.yaml", "enforce: restricted", "enforce: baseline", "is not restricted"},
		{"base/bridge.yaml", "drop: [ALL]", "drop: [CHOWN]", "a cluster would refuse its pods"},
		{"base/bridge.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "a cluster would refuse its pods"},
		{"base/bridge.yaml", "type: RuntimeDefault", "type: Unconfined", "a cluster would refuse its pods"},
		{"base/bridge.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "readOnlyRootFilesystem"},
		{"base/bridge.yaml", "enableServiceLinks: false", "enableServiceLinks: true", "enableServiceLinks"},

		{"overlays/keda/scaledobject.yaml", "pollingInterval:", "pollInterval:", "pollInterval"},
		{"overlays/keda/scaledobject.yaml", "currentReplicasIfHigher", "currentReplicasIfhigher", "behavior"},
		{"overlays/keda/scaledobject.yaml", `threshold: "30000"`, "threshold: 30000", "cannot unmarshal number"},
		{"overlays/keda/scaledobject.yaml", `threshold: "30000"`, `threshold: "45000"`, "leaves no room"},
		{"overlays/keda/scaledobject.yaml", "    name: ssenode\n  min", "    name: node\n  min", "its target is no Deployment"},
		{"overlays/keda/scaledobject.yaml", "sluice_ssenode_connections{", "sluice_ssenode_streams{", "no metric sluice_ssenode_streams"},
		{"overlays/keda/scaledobject.yaml", `sum(sluice_ssenode_connections{namespace="sluice"})`, `sum(sluice_ssenode_connections)`, "not only of namespace sluice"},
		{"overlays/keda/scaledobject.yaml", `sum(sluice_ssenode_connections`, `sum by (pod)(sluice_ssenode_connections`, "more than one number"},
		{"overlays/keda/scaledobject.yaml", "sum(rate(sluice_ssenode_events_out_total", "sum(rate(sluice_ssenode_connects_total", "want triggers by connections and by events delivered"},
		{"overlays/keda/kustomization.yaml", "components:\n  - ../../components/prometheus\n", "", "no ServiceMonitor"},
		{"overlays/keda/scaledobject.yaml", "[2m]", "[2x]", "ScaledObject ssenode, deliveries: "},
		{"overlays/keda/scaledobject.yaml", "periodSeconds: 120", "periodSeconds: 60", "pods go faster than one drains"},
		{"overlays/hpa/hpa.yaml", "averageUtilization:", "averageUtilisation:", "averageUtilisation"},
		{"overlays/hpa/kustomization.yaml", "      - op: remove\n        path: /spec/replicas\n", "      - op: replace\n        path: /spec/replicas\n        value: 3\n", "undoes the scaling"},
		{"overlays/keda/scaledobject.yaml", "              periodSeconds: 120\n", "              periodSeconds: 120\n" + otherScaler, "another one scales ssenode, too"},

		{"values/nats.yaml", "- sluice.ctl.bridge\n                  - _INBOX", "- sluice.ctl.>\n                  - _INBOX", "user bridge has other rights"},
		{"values/nats.yaml", "user: operator", "user: people", "no user operator"},
		{"values/nats.yaml", "<< $SLUICE_NODE_PASSWORD >>", "<< $SLUICE_NODES_PASSWORD >>", "a NATS server says"},
		{"values/nats.yaml", "memoryStore:", "memStorage:", "memStorage"},
		{"values/nats.yaml", "  cluster:\n    enabled", "  clusters:\n    enabled", "clusters"},
		{"values/nats.yaml", "    replicas: 3\n", "    replicas: 1\n", "a cluster of 1 servers, and BRIDGE_REPLICAS is 3"},
		{"values/nats.yaml", "size: 10Gi", "size: 2Gi", "room for a stream of 858993456 bytes"},
		{"base/bridge.env", "BRIDGE_REPLICAS=3", "BRIDGE_REPLICAS=5", "BRIDGE_REPLICAS is 5"},
		{"values/nats.yaml", "GOMEMLIMIT: 7GiB", "GOMEMLIMIT: 8GiB", "the servers: GOMEMLIMIT"},
		{"values/nats.yaml", "whenUnsatisfiable: DoNotSchedule", "whenUnsatisfied: DoNotSchedule", "whenUnsatisfied"},
		{"values/nats.yaml", "kubernetes.io/hostname:", "topology.kubernetes.io/zone:", "two servers may be on one machine"},
		{"values/nats.yaml", "secretKeyRef: {name: nats-passwords, key: node}", "secretKeyRef: {name: nats-passwords, key: nodes}", "the Secret that SLUICE_NODE_PASSWORD comes from"},
		{"values/nats.yaml", "secretKeyRef: {name: nats-passwords, key: node}", "secretRef: {name: nats-passwords, key: node}", "secretRef"},
	} {
		t.Run(m.file+" "+m.to, func(t *testing.T) {
			fs := tree(t)
			text, err := fs.ReadFile(root + m.file)
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(text), m.from, m.to, 1)
			if changed == string(text) {
				t.Fatalf("%s has no %q", m.file, m.from)
			}
			if err := fs.WriteFile(root+m.file, []byte(changed)); err != nil {
				t.Fatal(err)
			}
			got := Problems(fs, metrics)
			if !slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, m.found) }) {
				t.Errorf("nothing says %q, only:\n%s", m.found, strings.Join(got, "\n"))
			}
		})
	}
}

const otherScaler = `---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: other
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: ssenode
  minReplicas: 2
  maxReplicas: 3
`

// A file that nobody asked for is found.
func TestForgottenFile(t *testing.T) {
	fs := tree(t)
	text, err := fs.ReadFile(root + "base/namespace.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := fs.WriteFile(root+"base/other.yaml", text); err != nil {
		t.Fatal(err)
	}
	const want = "base/kustomization.yaml: does not name other.yaml"
	if got := Problems(fs, nodeMetrics(t)); !slices.Contains(got, want) {
		t.Errorf("want %q in %q", want, got)
	}
}

// tree is a copy in memory of what is checked.
func tree(t *testing.T) filesys.FileSystem {
	t.Helper()
	mem := filesys.MakeFsInMemory()
	add := func(from, to string) {
		text, err := os.ReadFile(from)
		if err == nil {
			err = mem.WriteFile(to, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add("../../nats/nats.conf", "/sluice/deploy/nats/nats.conf")
	if err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "check":
			return filepath.SkipDir
		case !d.IsDir():
			add(name, root+filepath.ToSlash(strings.TrimPrefix(name, ".."+string(filepath.Separator))))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return mem
}

// nodeMetrics asks a node for the names of its metrics, and whether it knows the paths
// that probes ask for. It needs no NATS for that.
func nodeMetrics(t *testing.T) []string {
	t.Helper()
	cfg := worker.Default[ssenode.Config]()
	cfg.Admin.Addr, cfg.SSENode.Addr = "127.0.0.1:0", "127.0.0.1:0"
	cfg.SSENode.DrainDelay, cfg.SSENode.DrainTime = 0, 0
	cfg.NATS.URL = "nats://127.0.0.1:1"
	n, err := ssenode.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	var names []string
	for path, status := range map[string]int{"/healthz": 200, "/readyz": 503, "/metrics": 200} {
		resp, err := client.Get("http://" + n.AdminAddr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != status {
			t.Errorf("%s: %s", path, resp.Status)
		}
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			if f := strings.Fields(s.Text()); len(f) == 4 && f[1] == "TYPE" {
				names = append(names, f[2])
			}
		}
		resp.Body.Close()
	}
	return names
}
