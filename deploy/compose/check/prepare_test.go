package check

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
)

// Who has not prepared is told what to do, and that helps: also who has copied
// .env.example, and who has a .env of an older version.
func TestUnprepared(t *testing.T) {
	root := tree(t)
	file := filepath.Join(root, composeDir, ".env")
	example, err := os.ReadFile(filepath.Join(root, composeDir, ".env.example"))
	if err != nil {
		t.Fatal(err)
	}
	for name, old := range map[string]string{
		"copied":          string(example),
		"older":           strings.ReplaceAll(string(example), "GRAFANA_PASSWORD=\n", ""),
		"without its end": strings.TrimSpace(strings.ReplaceAll(string(example), "VERSION=devel\n", "")),
		"of two lines":    "ROUTES=\nNATS_NODE_PASSWORD=mine",
		"empty":           "",
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(old), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(t.Context(), root); err == nil || !strings.Contains(err.Error(), "run ./prepare") {
				t.Errorf("it is loaded with empty passwords: %v", err)
			}
			prepare(t, root)
			if _, err := Load(t.Context(), root); err != nil {
				t.Errorf("after ./prepare: %v", err)
			}
			filled, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(old) {
				line = strings.TrimSuffix(line, "\n")
				if given := !strings.HasSuffix(line, "=") || line == "ROUTES="; given && !strings.Contains("\n"+string(filled), "\n"+line+"\n") {
					t.Errorf("the line %q is gone", line)
				}
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("others may read .env: %v, %v", info.Mode(), err)
			}
		})
	}
}

// What prepare has made stays when it is run again: but users of Redis follow .env.
func TestPrepareAgain(t *testing.T) {
	root := tree(t)
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(root, composeDir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	redis := func() types.ServiceConfig {
		p, err := Load(t.Context(), root)
		if err != nil {
			t.Fatal(err)
		}
		return p.Services["redis"]
	}
	env, site, users, before := read(".env"), read("secrets/site.pem"), read("secrets/users.acl"), redis()
	prepare(t, root)
	if read(".env") != env || read("secrets/site.pem") != site || read("secrets/users.acl") != users || !reflect.DeepEqual(redis(), before) {
		t.Error("the second time something else was made")
	}
	changed := strings.Replace(env, "REDIS_BRIDGE_PASSWORD=", "REDIS_BRIDGE_PASSWORD=x", 1)
	if err := os.WriteFile(filepath.Join(root, composeDir, ".env"), []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if prepare(t, root); read("secrets/users.acl") == users || strings.Contains(read("secrets/users.acl"), "x\n") {
		t.Error("the users of Redis are the old ones")
	}
	if reflect.DeepEqual(redis(), before) {
		t.Error("`docker compose up` would leave Redis as it is")
	}
	users = read("secrets/users.acl")
	for _, odd := range []string{
		`REDIS_BRIDGE_PASSWORD="n123"`, `REDIS_BRIDGE_PASSWORD='n123'`, "REDIS_BRIDGE_PASSWORD=n123 # mine", "REDIS_BRIDGE_PASSWORD=n123 ",
		"REDIS_BRIDGE_PASSWORD=n123\r", "REDIS_BRIDGE_PASSWORD=\r", "REDIS_BRIDGE_PASSWORD", "REDIS_BRIDGE_PASSWORD=n123\nREDIS_BRIDGE_PASSWORD=n124",
		"export REDIS_BRIDGE_PASSWORD=n123", " REDIS_BRIDGE_PASSWORD=n123", "REDIS_BRIDGE_PASSWORD = n123", "REDIS_BRIDGE_PASSWORD: n123",
		"REDIS_BRIDGE_PASSWORD=123n", "REDIS_BRIDGE_PASSWORD=n12$3", "REDIS_BRIDGE_PASSWORD=\u00fcber",
		`GRAFANA_PASSWORD="n123"`, "NATS_ROUTES_PASSWORD=n-123", `SSENODE_JWT_SECRET=""`, "PUBLISHER_API_KEYS=\r", "SSENODE_API_KEYS= # none",
	} {
		key := regexp.MustCompile(`[A-Z]\w+`).FindString(odd)
		text := regexp.MustCompile(`(?m)^`+key+`=.*$`).ReplaceAllLiteralString(env, odd)
		if err := os.WriteFile(filepath.Join(root, composeDir, ".env"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := prepared(t, root); err == nil || !strings.Contains(out, key+" in .env") {
			t.Errorf("%q: %v, %q", odd, err, out)
		}
	}
	if read("secrets/users.acl") != users {
		t.Error("users of Redis are made of what was refused")
	}
	if f, err := os.Stat(filepath.Join(root, composeDir, "secrets")); err != nil || f.Mode().Perm() != 0o700 {
		t.Errorf("secrets: %v, %v", f.Mode(), err)
	}
}

// prepare runs the script.
func prepare(t *testing.T, root string) {
	t.Helper()
	if out, err := prepared(t, root); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// prepared is what it says.
func prepared(t *testing.T, root string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", filepath.Join(root, composeDir, "prepare")).CombinedOutput()
	return string(out), err
}
