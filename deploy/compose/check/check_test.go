package check

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// repository is where this module lies.
const repository = "../../.."

// The files are as Docker and the programs want them.
func TestFiles(t *testing.T) {
	for _, p := range Problems(t.Context(), tree(t)) {
		t.Error(p)
	}
}

// What the check is for: each of these mistakes, alone, is found.
func TestMistakes(t *testing.T) {
	root := tree(t)
	for _, m := range []struct{ file, from, to, found string }{
		{composeFile, "read_only: true\n  cap_drop", "readonly: true\n  cap_drop", "readonly"},
		{composeFile, "  redis:\n    <<: *service\n", "  redis:\n    <<: *service\n    heathcheck: {}\n", "heathcheck"},
		{composeFile, "    mem_limit: 512m\n    healthcheck:\n      <<: *check\n      test: [CMD-SHELL, redis", "    mem_limit: 512m\n    mem_limit: 1g\n    healthcheck:\n      <<: *check\n      test: [CMD-SHELL, redis", "already defined"},
		{composeFile, "networks: [redis, nats, metrics]", "networks: [redis, nats, metric]", "metric"},
		{composeFile, "redis: {condition: service_healthy}", "redis: {condition: service_well}", "depends_on.redis.condition"},
		{composeFile, "redis: {condition: service_healthy}", "radis: {condition: service_healthy}", "radis"},
		{composeFile, "${NATS_NODE_PASSWORD:?run ./prepare}", "${NATS_NODES_PASSWORD:?run ./prepare}", "NATS_NODES_PASSWORD"},
		{composeFile, "${ROUTES:-}", "${ROUTE:-}", "nobody tells of ROUTE"},
		{composeFile, "${SSENODE_JWT_SECRET:?run ./prepare}", "0123456789abcdef0123456789abcdef", "SSENODE_JWT_SECRET stands in"},
		{composeFile, "nats://node:${NATS_NODE_PASSWORD}@nats2", "nats://node:hunter2@nats2", "the password in NATS_URL stands in"},
		{composeFile, "${PUBLISHER_API_KEYS:?run ./prepare}", "${PUBLISHER_API_KEYS:-}", "without PUBLISHER_API_KEYS it would start"},
		{composeFile, "  read_only: true\n  cap_drop", "  cap_drop", "read_only is not true"},
		{composeFile, "cap_drop: [ALL]", "cap_drop: [NET_RAW]", "keeps capabilities"},
		{composeFile, "no-new-privileges:true", "no-new-privileges:false", "no-new-privileges is not set"},
		{composeFile, "    image: redis:7.2.11-alpine\n", "    image: redis:7.2.11-alpine\n    network_mode: host\n", "network_mode"},
		{composeFile, "image: redis:7.2.11-alpine", "image: redis:7-alpine", `image "redis:7-alpine" has no version`},
		{composeFile, "image: haproxy:3.2.24-alpine", "image: haproxy", `image "haproxy" has no version`},
		{composeFile, `user: "65532:65532"`, `user: "0:0"`, "nats1: it is root"},
		{composeFile, "restart: unless-stopped", `restart: "no"`, `restart is "no"`},
		{composeFile, "max-size: 10m, ", "", "its log may fill the disk"},
		{composeFile, "  mem_limit: 512m\n  stop_grace", "  stop_grace", "bridge1: want limits of memory"},
		{composeFile, "  retries: 3\n", "", "no health check with"},
		{composeFile, `ports: ["127.0.0.1:9090:9090"]`, `ports: ["9090:9090"]`, "prometheus: port 9090 is open"},
		{composeFile, `ports: ["127.0.0.1:9090:9090"]`, `ports: ["127.0.0.1:9090:9091"]`, "port 9091 is published, but not exposed"},
		{composeFile, "source: ./secrets/site.pem", "source: ./secret/site.pem", "secret/site.pem"},
		{composeFile, "target: /etc/redis/users.acl, read_only: true", "target: /etc/redis/users.acl", "want it read-only"},
		{composeFile, "target: /etc/redis/users.acl, read_only: true, bind: {create_host_path: false}", "target: /etc/redis/users.acl, read_only: true", "an error if it is not there"},

		{composeFile, "    target: bridge\n", "    target: bridges\n", "it is built from"},
		{composeFile, "    dockerfile: deploy/docker/Dockerfile\n    target: ssenode", "    dockerfile: deploy/Dockerfile\n    target: ssenode", "it is built from"},
		{composeFile, "    target: bridge\n", "    target: build\n", `target "build" is none of the programs`},
		{composeFile, "  stop_grace_period: 10s # it", "  command: [\"-h\"]\n  stop_grace_period: 10s # it", "command and user are the image's"},
		{composeFile, "test: [CMD, /ssenode, ready]", "test: [CMD, /bridge, ready]", "health check"},
		{composeFile, "SSENODE_DRAIN_TIME: 20s", "SSENODE_DRAINTIME: 20s", "SSENODE_DRAINTIME is no setting of ssenode"},
		{composeFile, "SSENODE_DRAIN_TIME: 20s", `SSENODE_DRAIN_TIME: "20"`, `SSENODE_DRAIN_TIME="20": want a duration`},
		{composeFile, "SSENODE_DRAIN_TIME: 20s", "SSENODE_DRAIN_TIME: 30s", "ssenode1: stop_grace_period is not 45s"},
		{composeFile, "  stop_grace_period: 10s # it", "  stop_grace_period: 5s # it", "bridge1: stop_grace_period is not 10s"},
		{composeFile, "  GOMEMLIMIT: 1GiB", "  GOMEMLIMIT: 2GiB", `ssenode1: GOMEMLIMIT="2GiB"`},
		{composeFile, `ADMIN_ADDR: ":9101"`, `ADMIN_ADDR: "127.0.0.1:9101"`, "bridge1: admin is 127.0.0.1:9101, which nobody reaches"},
		{composeFile, `    ADMIN_ADDR: ":9101"` + "\n", "", "bridge1: admin is 127.0.0.1:9101"}, // the default is loopback
		{composeFile, `SSENODE_ADDR: ":8081"`, `SSENODE_ADDR: ":8080"`, "ssenode1: http is :8080"},
		{composeFile, `expose: ["8081", "9102"]`, `expose: ["8081", "9102", "80"]`, "ssenode1: exposes"},
		{composeFile, `BRIDGE_STORAGE: file`, `BRIDGE_STORAGE: tape`, "tape"},
		{composeFile, "@redis:6379\n    NATS_URL", "@redis:6380\n    NATS_URL", "names port 6380 of redis"},
		{composeFile, "@redis:6379\n    NATS_URL", "@rediss:6379\n    NATS_URL", "names rediss, which is no service"},
		{composeFile, "networks: [redis, nats, metrics]", "networks: [nats, metrics]", "names redis, with which it has no network in common"},
		{composeFile, "  nats2: {condition: service_healthy}\n", "", "it does not wait for nats2"},

		{composeFile, "      LB_NODE2: ssenode2:8081\n", "", "haproxy.cfg asks for LB_NODE2"},
		{composeFile, "      LB_NODE2: ssenode2:8081\n", "      LB_NODE2: ssenode2:8081\n      LB_NODE4: x\n", "does not ask for LB_NODE4"},
		{composeFile, "LB_NODE2: ssenode2:8081", "LB_NODE2: ssenode2:9102", "ssenode2 listens on :8081"},
		{composeFile, "LB_NODE2: ssenode2:8081", "LB_NODE2: ssenode1:8081", "nobody is sent to ssenode2"},
		{composeFile, "LB_NODE2: ssenode2:8081", "LB_NODE2: publisher1:8090", "LB_NODE2 names publisher1, want a service of ssenode"},
		{composeFile, `LB_NODE3_ADMIN: "9102"`, `LB_NODE3_ADMIN: "9103"`, "LB_NODE3_ADMIN is 9103"},
		{composeFile, `LB_ADDR: ":8443"`, `LB_ADDR: ":443"`, "does not expose its port 443"},
		{composeFile, "front: {ipv4_address: 172.30.99.12}", "front:", "ssenode2: its address on front may change"},
		{composeFile, "SSENODE_TRUSTED_PROXIES: 172.30.99.2", "SSENODE_TRUSTED_PROXIES: 172.30.99.3", "is not the balancer's address"},
		{composeFile, "networks: [metrics, ops]", "networks: [ops]", "prometheus.yml names"},
		{composeFile, "  bridge2: *bridge\n", "  bridge2: *bridge\n  bridge3: *bridge\n", "nobody asks bridge3 for its metrics"},
		{composeFile, "target: /etc/prometheus/alerts.yml", "target: /etc/prometheus/alert.yml", "no alerts.yml is mounted"},
		{composeFile, "target: /var/lib/grafana/dashboards", "target: /var/lib/grafana/boards", "no board is mounted"},
		{composeFile, `tmpfs: ["/tmp", "/var/lib/grafana:mode=1777,size=128m"]`, `tmpfs: ["/tmp"]`, "grafana: /var/lib/grafana outlives it"},
		{composeFile, `-n, "64000", `, "", "it takes any number of connections"},
		{composeFile, `-n, "64000", `, `-n, "many", `, "it takes any number of connections"},
		{composeFile, `-n, "64000", `, `-n, "80000", `, "80000 connections are reckoned to take 6250 MiB"},
		{composeFile, "    mem_limit: 5g\n", "    mem_limit: 2g\n", "64000 connections are reckoned to take 5000 MiB"},
		{composeFile, `-n, "64000", `, `-n, "50000", `, "nodes take 60000 streams, more than its 50000 connections"},
		{composeFile, `SSENODE_MAX_CONNECTIONS: "20000"`, `SSENODE_MAX_CONNECTIONS: "50000"`, "nodes take 150000 streams"},
		{composeFile, `  SSENODE_MAX_CONNECTIONS: "20000"` + "\n", "", "nodes take 300000 streams"}, // the default
		{composeFile, `    sysctls: {net.ipv4.ip_local_port_range: "1024 65535"}` + "\n", "", "it has 28232 ports to ssenode1"},
		{composeFile, `"1024 65535"`, `"1024 6553"`, "it has 5530 ports to ssenode1"},
		{composeFile, `"1024 65535"`, `"all"`, "it has 0 ports to ssenode1"},
		{composeFile, "ulimits: {nofile: 500000}", "ulimits: {nofile: 100000}", "too few open files for 64000 connections"},
		{composeFile, "    ulimits: {nofile: 500000}\n", "", "too few open files for 64000 connections"},

		{readmeFile, "docker compose build\n", "VERSION=1.1 docker compose build\n", "the next command has the version of .env"},
		{readmeFile, "bridge1 bridge2 ssenode1", "bridge1 ssenode1", "nobody is told to start a new version of bridge2"},
		{readmeFile, "--no-deps --wait $service", "--no-deps $service", "nobody is told to start a new version of ssenode1, and to wait"},
		{readmeFile, "stop ssenode1 ssenode2 ssenode3", "stop ssenode1 ssenode2", "nobody is told to stop ssenode3"},
		{readmeFile, "docker compose stop ssenode1 ssenode2 ssenode3\n", "", "nobody is told to stop ssenode1"},
		{composeDir + "/.env.example", "# Of the images", "# VERSION=1.1 docker compose build\n# Of the images", "the next command has the version of .env"},
		{"deploy/observability/prometheus/prometheus.yml", "ssenode3:9102", "ssenode4:9102", "ssenode4, which is no service"},
		{"deploy/observability/prometheus/prometheus.yml", "ssenode3:9102", "ssenode3:9101", "names port 9101 of ssenode3"},
		{"deploy/observability/grafana/provisioning/datasources/prometheus.yml", "prometheus:9090", "prometheus:9091", "the data source names port 9091"},
		{"deploy/lb/haproxy.cfg", "${LB_NODE3_ADMIN}", "${LB_NODE3_PORT}", "haproxy.cfg asks for LB_NODE3_PORT"},

		{composeDir + "/.env.example", "GRAFANA_PASSWORD=", "GRAFANA_PASSWORD=admin", "GRAFANA_PASSWORD has a value that everyone knows"},
		{composeDir + "/.env.example", "GRAFANA_PASSWORD=", "GRAFANA_PASSWORD=\nGRAFANA_USER=me", "nobody asks for GRAFANA_USER"},
		{composeDir + "/prepare", "openssl rand -hex 24", "openssl rand -hex 4", "is too short"},
		{composeDir + "/prepare", "+publish +ping &*", "+publish +ping +get &*", "publisher has other rights"},
		{composeDir + "/prepare", "-@all +ping", "+@all", "without a login one may +@all"},
		{composeDir + "/prepare", "on #${hash%% *}", "on >secret", "is not hashed"},
		{composeDir + "/prepare", "-sha256 -r secrets/users.acl", "-sha256 -r prepare", "leave it with the old ones"},
		{composeFile, "    env_file: ./secrets/redis.env\n", "", "leave it with the old ones"},
		{composeFile, "env_file: ./secrets/redis.env", "env_file: ./secrets/rediss.env", "rediss.env not found"},

		{dockerFile, "USER 65532:65532", "USER root", `USER of bridge is "root"`},
		{dockerFile, "USER 65532:65532\n", "", `USER of ssenode is ""`},
		{dockerFile, "FROM scratch AS empty", "FROM alpine:3.20.1 AS empty", "is made from alpine"},
		{dockerFile, "ARG TARGETARCH\n", "ARG TARGETARCH=amd64\n", "TARGETARCH has a value"},
		{dockerFile, "golang:1.26.8-trixie", "golang:latest", "has no version"},
		{dockerFile, "golang:1.26.8-trixie", "golang:1.25.8-trixie", "but go.mod says 1.26.0"},
		{composeFile, "image: nats:2.15.2-alpine", "image: nats:2.15.1-alpine", "but 2.15.2 is what is tested"},
		{dockerFile, "FROM empty AS publisher", "FROM empty AS publishers", "no target publisher"},
		{dockerFile, `ENTRYPOINT ["/ssenode"]`, `ENTRYPOINT ["/bridge"]`, "ssenode is started by"},
		{dockerFile, `CMD ["serve"]`, ``, "publisher is started by"},
		{dockerFile, `CMD ["/ssenode", "health"]`, `CMD /ssenode health`, "HEALTHCHECK of ssenode"},
		{dockerFile, "COPY --from=build /out/bridge /bridge", "COPY --from=build /out/ssenode /bridge", "/bridge in bridge is"},
		{dockerFile, "COPY --from=build /etc/ssl", "COPY --from=builder /etc/ssl", "--from=builder"},
		{dockerFile, "COPY --from=build /out/ /", "COPY --from=build /out/ /bin/", "its programs are not below /"},
		{dockerFile, "COPY shared shared", "COPY share share", "COPY share: it is not sent"},
		{dockerFile, "WORKDIR /src", "WORKDIRECTORY /src", "WORKDIRECTORY"},
		{dockerFile, "FROM empty AS ssenode", "FROM empty as ssenode", "FromAsCasing"},
		{ignoreFile, "*\n!go.mod", "!go.mod", "is sent to the build"},
		{ignoreFile, "!shared\n", "", "COPY shared: it is not sent"},
		{ignoreFile, "**/*_test.go\n", "", "_test.go is sent to the build"},
	} {
		t.Run(filepath.Base(m.file)+" "+m.to, func(t *testing.T) {
			file := filepath.Join(root, m.file)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(text), m.from, m.to, 1)
			if changed == string(text) {
				t.Fatalf("%s has no %q", m.file, m.from)
			}
			if err := os.WriteFile(file, []byte(changed), 0o755); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := os.WriteFile(file, text, 0o755); err != nil {
					t.Fatal(err)
				}
			}()
			if strings.HasSuffix(m.file, "/prepare") {
				anew := filepath.Join(root, composeDir, ".env")
				made, err := os.ReadFile(anew)
				if err != nil || os.Remove(anew) != nil {
					t.Fatal(err)
				}
				prepare(t, root)
				defer func() { // as it was, for the next mistake
					if err := os.WriteFile(anew, made, 0o600); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(file, text, 0o755); err != nil {
						t.Fatal(err)
					}
					prepare(t, root)
				}()
			}
			got := Problems(t.Context(), root)
			if !slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, m.found) }) {
				t.Errorf("nothing says %q, only:\n%s", m.found, strings.Join(got, "\n"))
			}
		})
	}
}

// original is a copy of the repository in which prepare was run; keys take a while.
var original = sync.OnceValue(func() map[string][]byte {
	dir, err := os.MkdirTemp("", "sluice-compose-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	files := map[string][]byte{}
	add := func(root string) {
		if err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir():
				if name != "." && skipped[d.Name()] {
					return fs.SkipDir
				}
				return nil
			case skipped[d.Name()], strings.HasSuffix(name, "_test.go") && filepath.Base(filepath.Dir(name)) != "worker":
				return nil
			}
			files[name], err = os.ReadFile(filepath.Join(root, name))
			return err
		}); err != nil {
			panic(err)
		}
	}
	add(repository)
	write(dir, files)
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "sh", filepath.Join(dir, composeDir, "prepare")).CombinedOutput(); err != nil {
		panic(string(out))
	}
	for _, name := range []string{".env", "secrets/users.acl", "secrets/redis.env", "secrets/site.pem", "secrets/site.crt"} {
		name = filepath.Join(composeDir, name)
		if files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			panic(err)
		}
	}
	return files
})

// skipped is what the check has no need of; of tests those of one package will do.
var skipped = map[string]bool{".git": true, ".ci": true, "bin": true, "node_modules": true, "local": true, "bench": true, "kubernetes": true, "check": true,
	"testdata": true, "secrets": true, ".env": true}

func write(dir string, files map[string][]byte) {
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			panic(err)
		}
		if err := os.WriteFile(file, text, 0o755); err != nil {
			panic(err)
		}
	}
}

// tree is a repository of the test's own, prepared.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(dir, original())
	return dir
}
