// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"
)

// Product is the server that the tests run against. Whatever differs between Vault
// and OpenBao, as far as tests are concerned, is asked here and nowhere else.
type Product struct {
	Name    string // Vault or OpenBao
	Version string // v1.21.1
	Path    string // of the binary, absolute
	openBao bool
}

// versionTimeout bounds what a binary may take to say what it is.
const versionTimeout = 20 * time.Second

var versionLine = regexp.MustCompile(`(?m)^(Vault|OpenBao) (v[0-9][^ ,\n]*)`)

// theProduct asks the binary once per process: its file may have any name.
var theProduct = sync.OnceValues(func() (*Product, error) {
	path, err := serverBinary()
	if err != nil {
		return nil, err
	}
	return productAt(path)
})

func productAt(path string) (*Product, error) {
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	said, err := exec.CommandContext(ctx, path, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("asking %s for its version: %w", path, err)
	}
	found := versionLine.FindSubmatch(said)
	if found == nil {
		return nil, fmt.Errorf("%s says of itself neither Vault nor OpenBao", path)
	}
	name := string(found[1])
	return &Product{Name: name, Version: string(found[2]), Path: path, openBao: name == "OpenBao"}, nil
}

// serverBinary returns the path of the server to test against: C1_E2E_VAULT, or
// else bin/vault of this repository.
func serverBinary() (string, error) {
	path := os.Getenv("C1_E2E_VAULT")
	if path == "" {
		root, err := repository()
		if err != nil {
			return "", err
		}
		path = filepath.Join(root, "bin", "vault")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	switch info, err := os.Stat(path); {
	case err != nil || info.IsDir():
		return "", fmt.Errorf("no server at %s: run make e2e, which builds a Vault, or make e2e SERVER=/path/to/a/server", path)
	case info.Mode()&0o111 == 0:
		return "", fmt.Errorf("the server at %s is not executable", path)
	}
	return path, nil
}

// AskServer is ServerUnderTest for those who have no test.
func AskServer() (*Product, error) { return theProduct() }

// ServerUnderTest returns the server that the tests run against.
func ServerUnderTest(t testing.TB) *Product {
	t.Helper()
	p, err := theProduct()
	fatalIf(t, err)
	return p
}

// VaultOnly skips a test that only makes sense on Vault.
func VaultOnly(t testing.TB, reason string) {
	t.Helper()
	if p := ServerUnderTest(t); p.openBao {
		t.Skipf("not on %s: %s", p.Name, reason)
	}
}

// OpenBaoOnly skips a test that only makes sense on OpenBao.
func OpenBaoOnly(t testing.TB, reason string) {
	t.Helper()
	if p := ServerUnderTest(t); !p.openBao {
		t.Skipf("not on %s: %s", p.Name, reason)
	}
}

// IsOpenBao reports whether it is OpenBao.
func (p *Product) IsOpenBao() bool { return p.openBao }

// CLI is the name of the product's command line.
func (p *Product) CLI() string {
	if p.openBao {
		return "bao"
	}
	return "vault"
}

// config is what the server's configuration must hold for a test to set it up by
// its API.
func (p *Product) config() string {
	if p.openBao {
		return "unsafe_allow_api_audit_creation = true\n"
	}
	return ""
}

// Environment tells the product's command line where the server is, and the token if
// there is one.
func (p *Product) Environment(addr, token string) []string {
	prefix := "VAULT_"
	if p.openBao {
		prefix = "BAO_"
	}
	env := []string{prefix + "ADDR=" + addr}
	if token != "" {
		env = append(env, prefix+"TOKEN="+token)
	}
	return env
}

// Reload is the command that starts a plugin anew on all nodes: OpenBao's knows no
// types of plugins.
func (p *Product) Reload(plugin string) []string {
	if p.openBao {
		return []string{"plugin", "reload", "-plugin=" + plugin}
	}
	return []string{"plugin", "reload", "-type=secret", "-plugin=" + plugin, "-scope=global"}
}

// OwnKVMetadata are the fields of version 2 of the KV API that this product's KV engine
// has and Vault's has not. OpenBao's tell writers of metadata what to check, and nobody
// writes metadata through this engine.
func (p *Product) OwnKVMetadata() []string {
	if p.openBao {
		return []string{"current_metadata_version", "metadata_cas_required"}
	}
	return nil
}

// catchesUp is how long a standby that answers reads itself may be behind a write
// that it has just sent on.
const catchesUp = 20 * time.Second

// Shows checks that a node shows what was written by way of it a moment ago: at once
// on Vault, whose standbys send reads on too, and soon on a standby of OpenBao, which
// answers from its own copy of the storage.
func (s *Server) Shows(try func() error) {
	s.t.Helper()
	if !s.product.openBao || s.Active() {
		fatalIf(s.t, try())
		return
	}
	Eventually(s.t, catchesUp, try)
}

// commandName is vault where a guide means the program.
var commandName = regexp.MustCompile(`(?m)(^|[ (|;&])vault `)

// Commands returns commands of a guide that is written for Vault, as one types them for
// this product: with another name.
func (p *Product) Commands(text string) string {
	return commandName.ReplaceAllString(text, "${1}"+p.CLI()+" ")
}

// OnPath returns a directory for PATH that holds the product's command line under the
// name that its users know.
func (p *Product) OnPath(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	fatalIf(t, os.Symlink(p.Path, filepath.Join(dir, p.CLI())))
	return dir
}
