// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package vaulttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// Kinds of storage for Options.
const (
	Inmem = "inmem"
	Raft  = "raft"
)

const (
	startTimeout = 60 * time.Second
	tailOfLogs   = 8 << 10
)

// Options is what Start takes; the zero value is a server in memory with an
// audit device.
type Options struct {
	Storage string       // Inmem (default) or Raft, which survives Restart
	NoAudit bool         // no file audit device
	NoRace  bool         // with the plugin as released, never with the race detector
	Measure bool         // for benchmarks: NoRace, an ordinary log, and nothing is kept to be searched for secrets
	Env     []string     // for the server and its plugins, NAME=value
	Gate    *StorageGate // with the plugin that asks it before and after its writes

	// Config adds to the server's configuration what a guide says, for the plugin with
	// this checksum in a server's directory. There is no audit device but what it declares.
	Config func(dir, pluginSHA256 string) string
}

// Server is a real Vault server, as one test sees it.
type Server struct {
	t testing.TB
	*instance
	outputs *outputs

	// Root is a client with the root token.
	Root *api.Client
}

// instance is the server itself, which several tests may share.
type instance struct {
	options   Options
	dir       string
	addr      string
	product   *Product
	plugin    *builtPlugin
	rootToken string
	unsealKey string
	shared    bool

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
}

// Start runs a Vault server, initialised and unsealed, until the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{t: t, instance: newInstance(t, o), outputs: &outputs{}}
	t.Cleanup(func() {
		t.Helper()
		if !o.Measure {
			s.searchForSecrets()
		}
		s.Stop()
		s.reportTrouble()
		_ = os.RemoveAll(s.dir)
	})
	s.initialise()
	return s
}

// With returns the same server as another test (or subtest) sees it.
func (s *Server) With(t testing.TB) *Server {
	view := &Server{t: t, instance: s.instance, outputs: s.outputs}
	view.Root = view.Client(s.rootToken)
	return view
}

func newInstance(t testing.TB, o Options) *instance {
	t.Helper()
	if o.Storage == "" {
		o.Storage = Inmem
	}
	product := ServerUnderTest(t)
	whichPlugin := buildPlugin
	switch {
	case o.NoRace || o.Measure:
		whichPlugin = buildPlainPlugin
	case o.Gate != nil:
		whichPlugin = buildGatedPlugin
		o.Env = append(slices.Clone(o.Env), StorageGateEnv+"="+o.Gate.url)
	}
	plugin, err := whichPlugin()
	fatalIf(t, err)
	dir, err := os.MkdirTemp("", "c1-e2e-") //nolint:usetesting // a shared server outlives the test that starts it
	fatalIf(t, err)
	dir, err = filepath.EvalSymlinks(dir) // Vault takes no symbolic link on the way to the plugins
	fatalIf(t, err)
	OnExit(func() { _ = os.RemoveAll(dir) })
	for _, sub := range []string{"plugins", "data", "home"} {
		fatalIf(t, os.Mkdir(filepath.Join(dir, sub), 0o700))
	}
	in := &instance{options: o, dir: dir, product: product, plugin: plugin}
	fatalIf(t, copyFile(plugin.path, filepath.Join(dir, "plugins", PluginName), 0o700))
	fatalIf(t, in.configure())
	fatalIf(t, in.run())
	return in
}

// configure writes the server's configuration for ports that are free now.
func (in *instance) configure() error {
	ports, err := FreeAddresses(2)
	if err != nil {
		return err
	}
	in.addr = "http://" + ports[0]
	storage := fmt.Sprintf("storage %q {}", Inmem)
	if in.options.Storage == Raft {
		storage = fmt.Sprintf(raftConfig, in.path("data"), ports[0])
	}
	text := fmt.Sprintf(serverConfig, storage, ports[0], ports[1], in.addr, "https://"+ports[1], in.path("plugins"))
	if in.options.Config != nil {
		text += in.options.Config(in.dir, in.plugin.sha256)
	} else {
		text += in.product.config()
	}
	return os.WriteFile(in.path("vault.hcl"), []byte(text), 0o600)
}

const serverConfig = `%s

listener "tcp" {
  address         = %q
  cluster_address = %q
  tls_disable     = true
}

api_addr         = %q
cluster_addr     = %q
plugin_directory = %q
disable_mlock    = true
`

const raftConfig = `storage "raft" {
  path                   = %q
  node_id                = %q
  performance_multiplier = "1"
}`

// run starts the process.
func (in *instance) run() error {
	log, err := os.OpenFile(in.path("vault.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	//nolint:noctx // ended by Stop or Kill
	cmd := exec.Command(in.product.Path, "server", "-config", in.path("vault.hcl"), "-log-level="+in.options.logLevel())
	cmd.Dir = in.dir
	cmd.Env = in.environment("", append([]string{"TMPDIR=" + os.TempDir()}, in.options.Env...)...)
	cmd.Stdout, cmd.Stderr = log, log
	EndWithUs(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	in.mu.Lock()
	in.cmd, in.exited = cmd, exited
	in.mu.Unlock()
	go func() {
		_ = cmd.Wait() // the log tells why
		close(exited)
	}()
	OnExit(in.end)
	return nil
}

func (o Options) logLevel() string {
	if o.Measure {
		return "info"
	}
	return "trace" // so that the search for secrets sees everything
}

func (s *Server) initialise() {
	s.t.Helper()
	bootstrap := s.Client("")
	s.answers(bootstrap)
	answer, err := bootstrap.Sys().Init(&api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	fatalIf(s.t, err)
	s.rootToken, s.unsealKey = answer.RootToken, answer.Keys[0]
	s.Root = s.Client(s.rootToken)
	s.Unseal()
	if !s.options.NoAudit && s.options.Config == nil {
		fatalIf(s.t, s.Root.Sys().EnableAuditWithOptions("file", &api.EnableAuditOptions{
			Type: "file", Options: map[string]string{"file_path": s.path("audit.log")},
		}))
	}
}

// Restart starts the server again after Kill or Stop, on the same storage.
func (s *Server) Restart() {
	s.t.Helper()
	if s.options.Storage != Raft {
		s.t.Fatal("only a server on raft survives a restart")
	}
	fatalIf(s.t, s.run())
	s.answers(s.Root)
	s.Unseal()
}

// answers waits until the server takes requests at all.
func (s *Server) answers(client *api.Client) {
	s.t.Helper()
	s.eventually(func() error {
		_, err := client.Sys().SealStatus()
		return err
	})
}

// Unseal opens the server and waits until it is ready.
func (s *Server) Unseal() {
	s.t.Helper()
	s.eventually(func() error {
		_, err := s.Root.Sys().Unseal(s.unsealKey)
		return err
	})
	s.Ready()
}

// Ready waits until the server is unsealed and active.
func (s *Server) Ready() {
	s.t.Helper()
	s.eventually(func() error {
		health, err := s.Root.Sys().Health()
		if err == nil && (health.Sealed || health.Standby) {
			err = errors.New("not active yet")
		}
		if err == nil {
			_, err = s.Root.Sys().ListMounts()
		}
		return err
	})
}

// eventually is Eventually, but gives up as soon as the server has died.
func (s *Server) eventually(try func() error) {
	s.t.Helper()
	err := Poll(pollEvery, startTimeout, func() error {
		select {
		case <-s.exited:
			s.t.Fatalf("the server ended by itself:\n%s", tail(s.ServerLog()))
		default:
		}
		return try()
	})
	if err != nil {
		s.t.Fatalf("the server is not ready after %s: %v\n%s", startTimeout, err, tail(s.ServerLog()))
	}
}

// Client returns a client that never repeats a request by itself.
func (s *Server) Client(token string) *api.Client {
	s.t.Helper()
	var transport http.RoundTripper = &http.Transport{MaxIdleConnsPerHost: 64}
	if !s.options.Measure {
		transport = &recorder{outputs: s.outputs, next: transport}
	}
	config := &api.Config{
		Address:    s.addr,
		MaxRetries: 0,
		Timeout:    120 * time.Second,
		HttpClient: &http.Client{
			Transport: transport,
			// Vault's client follows redirects itself.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	client, err := api.NewClient(config)
	fatalIf(s.t, err)
	client.SetToken(token)
	return client
}

// Addr returns the server's URL, http://host:port.
func (s *Server) Addr() string { return s.addr }

// Dir returns the server's directory: its configuration, logs and storage.
func (s *Server) Dir() string { return s.dir }

// ServerLog returns what the server and its plugins printed.
func (s *Server) ServerLog() string { return readOrEmpty(s.path("vault.log")) }

// AuditLog returns the audit device's file.
func (s *Server) AuditLog() string { return readOrEmpty(s.path("audit.log")) }

func (in *instance) path(name string) string { return filepath.Join(in.dir, name) }

// reportTrouble prints the ends of the logs of a failed test, and fails it for
// what no test looks at by itself.
func (s *Server) reportTrouble() {
	s.t.Helper()
	log := s.ServerLog()
	if _, report, found := strings.Cut(log, "WARNING: DATA RACE"); found {
		s.t.Errorf("the race detector of the plugin found a race:%s", report)
	}
	if s.t.Failed() {
		s.t.Logf("end of the server's log:\n%s", tail(log))
		s.t.Logf("end of the audit log:\n%s", tail(s.AuditLog()))
	}
}

func tail(text string) string {
	if len(text) <= tailOfLogs {
		return text
	}
	text = text[len(text)-tailOfLogs:]
	return text[strings.IndexByte(text, '\n')+1:]
}

func readOrEmpty(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(raw)
}

func copyFile(from, to string, mode os.FileMode) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, raw, mode)
}

// FreeAddress returns a loopback address that nobody listens on.
func FreeAddress(t testing.TB) string {
	t.Helper()
	addresses, err := FreeAddresses(1)
	fatalIf(t, err)
	return addresses[0]
}

// FreeAddresses returns loopback addresses that nobody listens on.
func FreeAddresses(n int) ([]string, error) {
	var addresses []string
	for range n {
		var lc net.ListenConfig
		l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // held until all are chosen
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

func fatalIf(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// AppendConfig adds to the server's configuration file, which it reads anew when it is
// told to.
func (s *Server) AppendConfig(text string) {
	s.t.Helper()
	file, err := os.OpenFile(s.path("vault.hcl"), os.O_APPEND|os.O_WRONLY, 0)
	fatalIf(s.t, err)
	_, err = file.WriteString("\n" + text + "\n")
	fatalIf(s.t, errors.Join(err, file.Close()))
}
