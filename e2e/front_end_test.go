// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/e2e/vaulttest"
	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// frontEnd stands between the engine and C1. It knows C1's published operations,
// and answers everything else, and what a test takes away from it, as routers do.
type frontEnd struct {
	*httptest.Server
	mu      sync.Mutex
	status  int // of what it does not know: 404 in C1's own form, 405 or 501
	unknown *regexp.Regexp
	refused int
}

// published are C1's operations, by hand from its published description.
var published = regexp.MustCompile(`^(` +
	`POST /auth/v1/token|` +
	`GET /api/v1/auth/introspect|` +
	`POST /api/v1/apps/connectors/credentials|` +
	`GET /api/v1/apps|` +
	`GET /api/v1/apps/[^/]+/connectors|` +
	`(GET|POST|DELETE) /api/v1/apps/[^/]+/connectors/[^/]+|` +
	`(GET|POST) /api/v1/apps/[^/]+/connectors/[^/]+/credentials/[^/]+|` +
	`(GET|POST) /api/v1/decoys|` +
	`POST /api/v1/decoys/search|` +
	`(GET|PATCH|DELETE) /api/v1/decoys/[^/]+|` +
	`POST /api/v1/decoys/[^/]+/rotate` +
	`)$`)

func newFrontEnd(t *testing.T, e *vaulttest.Engine, status int) *frontEnd {
	t.Helper()
	behind, err := url.Parse(e.Tenant.URL())
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM([]byte(e.Emulator.CACertPEM())))
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(behind) },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
	}
	f := &frontEnd{status: status}
	f.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.knows(r) {
			proxy.ServeHTTP(w, r)
			return
		}
		if status == http.StatusNotFound {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, `{"code":5,"message":"Not Found","details":[]}`)
			return
		}
		http.Error(w, http.StatusText(status), status)
	}))
	t.Cleanup(f.Close)
	e.Configure(e.Mount, e.Tenant, object{"url": f.URL, "ca_cert": f.certificate()})
	return f
}

func (f *frontEnd) certificate() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw}))
}

func (f *frontEnd) knows(r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	request := r.Method + " " + r.URL.Path
	known := published.MatchString(request) && (f.unknown == nil || !f.unknown.MatchString(request))
	if !known {
		f.refused++
	}
	return known
}

// forget makes the front end answer requests that match as ones it does not know;
// "" lets it know all of C1 again.
func (f *frontEnd) forget(pattern string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unknown = nil
	if pattern != "" {
		f.unknown = regexp.MustCompile(pattern)
	}
}

func (f *frontEnd) turnedAway() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused
}

// requireTruthful compares what the engine says of each credential with C1: what
// has ended there is dead, and what is alive has not ended.
func requireTruthful(t *testing.T, e *vaulttest.Engine, binding string) {
	t.Helper()
	living := map[any]bool{}
	for _, id := range alive(e) {
		living[id] = true
	}
	for _, record := range e.Records(binding) {
		if record["ended_at"] != "" {
			require.False(t, living[record["credential_id"]], "%v is recorded as ended and alive", record["credential_id"])
		}
	}
}

// tryAgainNow has everything that waits tried again, as writing config does, and
// waits until nothing needs a person.
func tryAgainNow(t *testing.T, e *vaulttest.Engine) {
	t.Helper()
	e.MustWrite("config", object{"max_retries": 0})
	vaulttest.Eventually(t, 30*time.Second, func() error {
		if status := e.MustRead("status").Data; status["healthy"] != true {
			return fmt.Errorf("attention: %v", status["attention"])
		}
		return nil
	})
}

// needsPerson returns the details of what needs a person for a reason.
func needsPerson(e *vaulttest.Engine, reason string) (details []string) {
	list, _ := e.MustRead("status").Data["attention"].([]any)
	for _, entry := range list {
		if entry := entry.(object); entry["reason"] == reason {
			details = append(details, entry["detail"].(string))
		}
	}
	return details
}

func TestNothingAliveIsEverRecordedAsEnded(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			e := vaulttest.OnShared(t)
			f := newFrontEnd(t, e, status)
			e.MustWrite("config", object{"max_retries": 0})
			e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
			vended := e.MustRead("connector-creds/github")

			// The route to revoke is not there: the lease ends, the credential does not.
			f.forget(`^POST .*/credentials/[^/]+$`)
			revoke(t, e, vended)
			require.Empty(t, leasesBelow(t, e), "Vault's lease ends all the same")
			require.NoError(t, e.Login(vended), "it is alive")
			requireTruthful(t, e, "connectors/github")
			told := needsPerson(e, "retiring")
			require.Len(t, told, 1)
			require.Contains(t, told[0], vended.Data["credential_id"])
			require.Contains(t, told[0], fmt.Sprint(status))
			require.Contains(t, told[0], "still shows the credential", "the reason is in words")

			// Nor are the routes to look at it and at its connector.
			f.forget(`^(POST|GET) /api/v1/apps/[^/]+/connectors/`)
			e.MustWrite("config", object{"max_retries": 0})
			requireTruthful(t, e, "connectors/github")
			require.NoError(t, e.Login(vended))
			require.Len(t, needsPerson(e, "retiring"), 1)

			f.forget("")
			tryAgainNow(t, e)
			require.Error(t, e.Login(vended))
			require.NotEmpty(t, e.Records("connectors/github")[0]["ended_at"])
			requireTruthful(t, e, "connectors/github")
			require.Positive(t, f.turnedAway(), "the front end was asked for what it does not know")
		})
	}
}

func TestADecoyIsNotGoneWhileTheFeatureIsOff(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			e := vaulttest.OnShared(t)
			f := newFrontEnd(t, e, status)
			e.MustWrite("config", object{"max_retries": 0})
			id := e.Tenant.Decoy(c1test.KindConnectorClient)
			e.BindDecoy(e.Mount, "bait", id, object{"on_lease_end": "rotate"})
			vended := e.MustWrite("decoy-creds/bait", nil)
			planted := e.Tenant.DecoyFingerprint(id)

			f.forget(` /api/v1/decoys`)
			revoke(t, e, vended)
			require.Equal(t, planted, e.Tenant.DecoyFingerprint(id), "the copy is alive")
			require.Empty(t, e.Records("decoys/bait")[0]["ended_at"])
			require.Len(t, needsPerson(e, "retiring"), 1)

			// The decoy alone is not known, though the list shows it.
			f.forget(`^GET /api/v1/decoys/`)
			e.MustWrite("config", object{"max_retries": 0})
			require.Empty(t, e.Records("decoys/bait")[0]["ended_at"])
			require.Equal(t, planted, e.Tenant.DecoyFingerprint(id))
			require.Len(t, needsPerson(e, "retiring"), 1)

			f.forget("")
			tryAgainNow(t, e)
			require.NotEqual(t, planted, e.Tenant.DecoyFingerprint(id), "the copy went dead")
			require.NotEmpty(t, e.Records("decoys/bait")[1]["ended_at"])
		})
	}
}

func TestNothingDeadIsRetriedForEver(t *testing.T) {
	t.Parallel()
	for _, form := range []c1test.RevokedAnswer{c1test.RevokedNotFound, c1test.RevokedShown} {
		for name, die := range map[string]func(*vaulttest.Engine, any){
			"revoked by somebody else": func(e *vaulttest.Engine, id any) { e.Tenant.RevokeCredential(id.(string)) },
			"ended by a rotation":      func(e *vaulttest.Engine, _ any) { e.Tenant.RotateConnector(e.Tenant.Connector()) },
			"its connector deleted":    func(e *vaulttest.Engine, _ any) { e.Tenant.DeleteConnector(e.Tenant.Connector()) },
			"its app deleted":          func(e *vaulttest.Engine, _ any) { e.Tenant.DeleteApp(e.Tenant.Connector().AppID) },
		} {
			t.Run(string(form)+"/"+name, func(t *testing.T) {
				t.Parallel()
				e := vaulttest.OnShared(t)
				e.Tenant.SetSemantics(c1test.Exclusive)
				e.Tenant.SetRevokedAnswer(form)
				newFrontEnd(t, e, http.StatusMethodNotAllowed)
				e.BindConnector(e.Mount, "github", e.Tenant.Connector(), nil)
				vended := e.MustRead("connector-creds/github")
				die(e, vended.Data["credential_id"])
				require.Error(t, e.Login(vended))
				revoke(t, e, vended)
				requireHealthy(t, e)
				require.NotEmpty(t, e.Records("connectors/github")[0]["ended_at"])
			})
		}
	}
}
