// Package certs reads the certificates and keys that settings name: what a worker
// shows to NATS and Redis and believes of them (Client), and what a node shows to
// browsers (Pair). Files may be replaced while a worker runs: new connections use
// the new ones.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Client are the settings for TLS towards a server, a part of the group of settings
// NATS_ or REDIS_.
type Client struct {
	CA   string `desc:"file with the authorities (PEM) that may have signed the servers' certificates, instead of the system's"`
	Cert string `desc:"file with a certificate (PEM) for servers that want one"`
	Key  string `desc:"file with the key (PEM) of that certificate"`
}

// IsSet tells whether any of them is.
func (c Client) IsSet() bool { return c != Client{} }

// Validate reads the files. Errors name the setting, which begins with the group's
// name ("NATS"), and are free of secrets.
func (c Client) Validate(group string) error {
	if (c.Cert == "") != (c.Key == "") {
		return fmt.Errorf("%[1]s_CERT=%[2]q and %[1]s_KEY=%[3]q: want both, or none", group, Shown(c.Cert), Shown(c.Key))
	}
	if _, err := c.Authorities(); err != nil {
		return fmt.Errorf("%s_CA=%q: %w", group, Shown(c.CA), err)
	}
	if _, err := c.Certificate(); err != nil {
		return fmt.Errorf("%[1]s_CERT=%[2]q with %[1]s_KEY=%[3]q: %[4]w", group, Shown(c.Cert), Shown(c.Key), err)
	}
	return nil
}

// Authorities reads the CA file; nil, for the system's, if none is set.
func (c Client) Authorities() (*x509.CertPool, error) {
	if c.CA == "" {
		return nil, nil
	}
	text, err := ReadFile(c.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("no certificate in it: want PEM blocks CERTIFICATE")
	}
	return pool, nil
}

// Certificate reads certificate and key; the zero one, which shows nothing, if none
// is set.
func (c Client) Certificate() (tls.Certificate, error) {
	if c.Cert == "" {
		return tls.Certificate{}, nil
	}
	pair, _, err := readPair(c.Cert, c.Key)
	return pair, err
}

// Extend returns a copy of base with the files as they are now.
func (c Client) Extend(base *tls.Config) (*tls.Config, error) {
	cfg := base.Clone()
	pool, err := c.Authorities()
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	pair, err := c.Certificate()
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if pool != nil {
		cfg.RootCAs = pool
	}
	if c.Cert != "" {
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// Shown is the value of a setting that names a file, as errors may show it. Who puts
// the secret itself in place of the file's name must not find it in the log.
func Shown(value string) string {
	if len(value) > 200 || strings.ContainsAny(value, "\r\n") || strings.Contains(value, "-----BEGIN") || looksSecret(value) {
		return "[redacted]"
	}
	return value
}

// looksSecret tells a JWT and the seed of an nkey from the name of a file.
func looksSecret(value string) bool {
	if strings.HasPrefix(value, "eyJ") {
		return true
	}
	// Base 32 in capitals, beginning with S and the kind: 58 characters.
	return len(value) > 40 && value[0] == 'S' && strings.Trim(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// ReadFile is os.ReadFile with an error that does not repeat a name that may be a
// secret.
func ReadFile(name string) ([]byte, error) {
	if Shown(name) != name {
		return nil, errors.New("want the name of a file, not its content")
	}
	text, err := os.ReadFile(name)
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err // the setting names the file already
	}
	return text, err
}
