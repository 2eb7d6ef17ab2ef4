// Package web holds the client for pages that a node serves: sluice.js, what goes
// with it, and their types. README.md beside it is the guide.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

//go:embed *.js *.d.ts
var files embed.FS

// File is one file as it goes over the wire. It is not changed after Load.
type File struct {
	Type string // Content-Type
	Hash string // of the content, letters and digits
	Text []byte
	Gzip []byte // Text compressed
}

// Load returns the files by path, each of which begins with a slash.
func Load() (map[string]*File, error) {
	all := map[string]*File{}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("client for pages: %w", err)
	}
	for _, e := range entries {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			return nil, fmt.Errorf("client for pages: %w", err)
		}
		f := &File{Type: "text/plain; charset=utf-8", Text: text} // no browser runs types
		if path.Ext(e.Name()) == ".js" {
			f.Type, f.Text = "text/javascript; charset=utf-8", uncommented(text)
		}
		sum := sha256.Sum256(f.Text)
		f.Hash = hex.EncodeToString(sum[:8])
		if f.Gzip, err = compressed(f.Text); err != nil {
			return nil, fmt.Errorf("client for pages: %s: %w", e.Name(), err)
		}
		all["/"+e.Name()] = f
	}
	return all, nil
}

// uncommented leaves out lines that are nothing but a comment, and empty ones,
// after the head of the file: a sixth of what every page loads.
func uncommented(text []byte) []byte {
	head, rest, _ := bytes.Cut(text, []byte("\n\n"))
	b := append(bytes.Clone(head), '\n')
	for line := range bytes.Lines(rest) {
		if t := strings.TrimSpace(string(line)); t != "" && !strings.HasPrefix(t, "//") {
			b = append(b, line...)
		}
	}
	return b
}

func compressed(text []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
