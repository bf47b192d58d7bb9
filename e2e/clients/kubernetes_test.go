// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package clients

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"debug/buildinfo"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
)

const (
	// clusterTimeout is how long etcd and kube-apiserver may take to be ready.
	clusterTimeout = 2 * time.Minute
	// issuer is the default of Kubernetes.
	issuer = "https://kubernetes.default.svc.cluster.local"
	// bin is where make puts the programs.
	bin = "../../bin"
)

// cluster is a Kubernetes API server with its etcd. There are no nodes and no
// controllers: the stories play a kubelet.
type cluster struct {
	dir        string
	url        string
	ca         certificate
	admin      *http.Client
	kubeconfig string // of a cluster administrator

	mu        sync.Mutex
	operators map[string]*vaulttest.Background
}

// kubernetes returns the cluster that the tests of this process share. It starts
// with the first test that asks for it.
func kubernetes(t *testing.T) *cluster {
	t.Helper()
	c, err := startCluster()
	require.NoError(t, err)
	return c
}

var startCluster = sync.OnceValues(func() (*cluster, error) {
	dir, err := os.MkdirTemp("", "c1-kubernetes-")
	if err != nil {
		return nil, err
	}
	vaulttest.OnExit(func() { _ = os.RemoveAll(dir) })
	c := &cluster{dir: dir, operators: map[string]*vaulttest.Background{}}
	if c.ca, err = newCA(dir); err != nil {
		return nil, err
	}
	etcd, err := c.startEtcd()
	if err != nil {
		return nil, err
	}
	if err := c.startAPIServer(etcd); err != nil {
		return nil, err
	}
	return c, c.applyFile(context.Background(), "vault.yaml", nil)
})

func (c *cluster) startEtcd() (url string, err error) {
	server, err := c.ca.issue("etcd")
	if err != nil {
		return "", err
	}
	addresses, err := vaulttest.FreeAddresses(2)
	if err != nil {
		return "", err
	}
	url, peer := "https://"+addresses[0], "http://"+addresses[1]
	_, err = c.background("etcd",
		"--data-dir="+filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+url, "--advertise-client-urls="+url,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer,
		"--cert-file="+server.file, "--key-file="+server.keyFile,
		"--client-cert-auth", "--trusted-ca-file="+c.ca.file)
	return url, err
}

func (c *cluster) startAPIServer(etcd string) error {
	server, err := c.ca.issue("kube-apiserver")
	if err != nil {
		return err
	}
	accounts, err := c.ca.issue("service-accounts")
	if err != nil {
		return err
	}
	admin, err := c.ca.issue("admin", "system:masters")
	if err != nil {
		return err
	}
	addresses, err := vaulttest.FreeAddresses(1)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(addresses[0])
	if err != nil {
		return err
	}
	c.url = "https://" + addresses[0]
	process, err := c.background("kube-apiserver",
		"--etcd-servers="+etcd, "--etcd-cafile="+c.ca.file, "--etcd-certfile="+server.file, "--etcd-keyfile="+server.keyFile,
		"--bind-address="+host, "--secure-port="+port, "--advertise-address="+host, "--endpoint-reconciler-type=none",
		"--cert-dir="+c.dir, "--tls-cert-file="+server.file, "--tls-private-key-file="+server.keyFile,
		"--client-ca-file="+c.ca.file, "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer="+issuer,
		"--service-account-signing-key-file="+accounts.keyFile, "--service-account-key-file="+accounts.file,
		"--disable-admission-plugins=ServiceAccount") // which wants a controller
	if err != nil {
		return err
	}
	if c.admin, err = admin.client(c.ca); err != nil {
		return err
	}
	if c.kubeconfig, err = c.writeKubeconfig(admin); err != nil {
		return err
	}
	var ended error
	err = vaulttest.Poll(200*time.Millisecond, clusterTimeout, func() error {
		select {
		case <-process.Exited():
			ended = fmt.Errorf("kube-apiserver ended:\n%s", lastLines(process.Log()))
			return nil
		default:
		}
		if err := c.do(context.Background(), http.MethodGet, "/readyz", nil, nil); err != nil {
			return err
		}
		return c.do(context.Background(), http.MethodGet, "/api/v1/namespaces/default", nil, nil)
	})
	return errors.Join(err, ended)
}

const kubeconfigTemplate = `apiVersion: v1
kind: Config
current-context: test
contexts:
  - {name: test, context: {cluster: test, user: admin}}
clusters:
  - {name: test, cluster: {server: %q, certificate-authority: %q}}
users:
  - {name: admin, user: {client-certificate: %q, client-key: %q}}
`

func (c *cluster) writeKubeconfig(admin certificate) (string, error) {
	path := filepath.Join(c.dir, "kubeconfig")
	text := fmt.Sprintf(kubeconfigTemplate, c.url, c.ca.file, admin.file, admin.keyFile)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// background starts one of the programs that make builds.
func (c *cluster) background(program string, args ...string) (*vaulttest.Background, error) {
	path, err := built(program, "")
	if err != nil {
		return nil, err
	}
	return vaulttest.StartBackground(c.dir, nil, append([]string{path}, args...)...)
}

// operator starts an operator for the whole cluster, once, and has what it prints
// searched for the secrets of this story.
func (c *cluster) operator(s *story, path string, args ...string) {
	s.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	process := c.operators[path]
	if process == nil {
		var err error
		process, err = vaulttest.StartBackground(c.dir, []string{"KUBECONFIG=" + c.kubeconfig}, append([]string{path}, args...)...)
		require.NoError(s.t, err)
		c.operators[path] = process
	}
	s.t.Cleanup(func() {
		s.Collect("the log of "+filepath.Base(path), process.Log())
		if s.t.Failed() {
			s.t.Logf("end of the log of %s:\n%s", filepath.Base(path), lastLines(process.Log()))
		}
	})
}

// built is the path of a program: what an environment variable names, or else what
// make has built.
func built(program, variable string) (string, error) {
	path := filepath.Join(bin, program)
	if named := os.Getenv(variable); variable != "" && named != "" {
		path = named
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		return "", fmt.Errorf("no program at %s: run make e2e-clients, which builds it", path)
	}
	return path, nil
}

// builtFrom is the version of the module that a Go program was built from.
func builtFrom(t *testing.T, path string) string {
	t.Helper()
	info, err := buildinfo.ReadFile(path)
	require.NoError(t, err)
	return strings.TrimPrefix(info.Main.Version, "v")
}

func lastLines(log []byte) string {
	const most = 4 << 10
	return string(log[max(0, len(log)-most):])
}

// client returns an HTTP client that shows a certificate.
func (c certificate) client(ca certificate) (*http.Client, error) {
	pair, err := tls.LoadX509KeyPair(c.file, c.keyFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca.pem) {
		return nil, errors.New("the CA's certificate is none")
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}}, nil
}
