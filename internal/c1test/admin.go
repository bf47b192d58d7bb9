// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// adminPath is where a tenant takes orders for its emulator. Every tenant's
// port serves it; ?tenant=NAME picks another tenant than the port's own, which
// is the way to a tenant that is down.
const adminPath = "/_emulator/"

// maxAdminWait bounds how long a caller may wait at a barrier.
const maxAdminWait = time.Minute

// AdminHelp describes the admin path for people.
const AdminHelp = `Orders to the emulator go to /_emulator/ on any tenant's port, as JSON and
without authentication; ?tenant=NAME picks another tenant than the port's own.

  GET    seeds                 URL, identities with their secrets, seeded IDs
  GET    journal               everything that changed, in order, never a secret
  GET    findings              every use of a decoy; the API shows those of one decoy as one
                               finding that recurs
  GET    requests              how many requests arrived, by operation
  GET    alive?app_id=A&connector_id=C
                               the credentials that a connector can log in with
  GET    secrets               every secret minted so far, for scans of logs
  POST   settings              {"semantics": "exclusive" or "overlapping",
                                "revoked": "not_found" or "shown",
                                "token_errors": "oauth" or "grpc",
                                "connectors": true, "decoys": false, "findings": true,
                                "credential_ttl": "1h", "down": true, "up_after": "5s",
                                "dpop_nonces": {"token": true, "api": false}, "dpop_window": "1m"}
  POST   revoke-tokens         ends every access token
  POST   rotate-dpop-nonces    challenges who sends an older nonce

  GET    identities            the service principals' credentials and personal clients that can log in
  POST   identities            {"display_name": "Vault"}; also personal, plain, require_dpop, expires_in,
                               scoped_roles, source_cidrs, beside (a client ID of the same principal)
  POST   identities/federated  {"issuer": "https://ci.example", "keys": {a JWK set}, "subject": "job"}
  POST   identities/delete     {"client_id": "I"}, as somebody else would
  POST   identities/expire     {"client_id": "I"}

  POST   connectors            {"display_name": "Okta"}; also app_id, for one more of an app
  POST   connectors/rotate     {"app_id": "A", "connector_id": "C"}, as somebody else would
  POST   connectors/delete     {"app_id": "A", "connector_id": "C"}
  DELETE credentials/ID        ends a connector's credential
  POST   decoys                {"kind": "DECOY_KIND_ACCESS_TOKEN", "display_name": "Bait",
                                "annotations": {"owner": "red team"}}
  POST   decoys/ID/rotate      as somebody else would
  POST   decoys/ID/expose      {}: a scanner saw the secret in public; also fingerprint,
                               of an older secret
  DELETE decoys/ID

  GET    faults                the faults in force, with how often each one hit
  POST   faults                {"op": "rotateDecoy", "times": 1, "status": 503}; also object, delay,
                               clock_offset, retry_after, body, drop_before, redirect, commit_late,
                               drop_after, status_after, truncate, garbage, endless, empty_answer,
                               omit_material, omit_secret, wrong_fingerprint,
                               set: {"decoy.displayName": "x", "decoy.lastUsedAt": null}
  POST   faults/ID/commit      lets happen what a commit_late fault cut off
  DELETE faults/ID             clears one
  DELETE faults                clears all
  POST   barriers              {"op": "rotateDecoy", "when": "before_commit", "count": 1}; also object
  GET    barriers/ID?wait=10s  waits for the requests to arrive, and says whether they did
  POST   barriers/ID/release   lets them go on

Operations: token, introspect, listApps, listConnectors, getConnector, rotateConnector,
getConnectorCredential, revokeConnectorCredential, getDecoy, listDecoys,
searchDecoys, createDecoy, updateDecoy, deleteDecoy, rotateDecoy, getFinding,
searchFindings, listServicePrincipalCredentials, createServicePrincipalCredential,
getServicePrincipalCredential, updateServicePrincipalCredential,
deleteServicePrincipalCredential, listPersonalClients, createPersonalClient,
getPersonalClient, updatePersonalClient, deletePersonalClient.
`

// order is one admin request to a tenant; it returns what to answer.
type order func(*Tenant, *http.Request) (any, error)

// errNoSuch answers 404; any other error of an order 400.
var errNoSuch = errors.New("no such object")

// adminHandler routes the orders that AdminHelp lists.
func (t *Tenant) adminHandler() http.Handler {
	mux := http.NewServeMux()
	for pattern, do := range map[string]order{
		"GET seeds":          func(t *Tenant, _ *http.Request) (any, error) { return t.Seeds(), nil },
		"GET journal":        func(t *Tenant, _ *http.Request) (any, error) { return orEmpty(t.Journal()), nil },
		"GET findings":       func(t *Tenant, _ *http.Request) (any, error) { return orEmpty(t.Findings()), nil },
		"GET secrets":        func(t *Tenant, _ *http.Request) (any, error) { return t.emulator.Secrets(), nil },
		"GET requests":       adminRequests,
		"GET alive":          adminAlive,
		"POST settings":      adminSettings,
		"POST revoke-tokens": adminRevokeTokens,

		"GET identities":            func(t *Tenant, _ *http.Request) (any, error) { return orEmpty(t.LiveCredentials()), nil },
		"POST identities":           adminNewIdentity,
		"POST identities/federated": adminNewFederatedIdentity,
		"POST identities/delete":    func(t *Tenant, r *http.Request) (any, error) { return adminEndIdentity(r, t.DeleteIdentity) },
		"POST identities/expire":    func(t *Tenant, r *http.Request) (any, error) { return adminEndIdentity(r, t.ExpireIdentity) },
		"POST rotate-dpop-nonces":   adminRotateDPoPNonces,

		"POST connectors":         adminNewConnector,
		"POST connectors/rotate":  adminRotateConnector,
		"POST connectors/delete":  adminDeleteConnector,
		"DELETE credentials/{id}": adminRevokeCredential,
		"POST decoys":             adminNewDecoy,
		"POST decoys/{id}/rotate": adminRotateDecoy,
		"POST decoys/{id}/expose": adminExposeDecoy,
		"DELETE decoys/{id}":      adminDeleteDecoy,

		"GET faults":                 adminListFaults,
		"POST faults":                adminAddFault,
		"POST faults/{id}/commit":    adminCommitFault,
		"DELETE faults/{id}":         adminClearFault,
		"DELETE faults":              adminClearFaults,
		"POST barriers":              adminHold,
		"GET barriers/{id}":          adminBarrier,
		"POST barriers/{id}/release": adminReleaseBarrier,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+adminPath+path, func(w http.ResponseWriter, r *http.Request) {
			t.obey(w, r, do)
		})
	}
	return mux
}

// obey runs one order for the tenant that the request means.
func (t *Tenant) obey(w http.ResponseWriter, r *http.Request, do order) {
	if name := r.URL.Query().Get("tenant"); name != "" {
		if t = t.emulator.Tenant(name); t == nil {
			write(w, notFound("tenant"))
			return
		}
	}
	out, err := do(t, r)
	switch {
	case errors.Is(err, errNoSuch):
		write(w, fail(http.StatusNotFound, codeNotFound, "%v", err))
	case err != nil:
		write(w, badRequest("%v", err))
	default:
		write(w, ok200(out))
	}
	_ = http.NewResponseController(w).Flush() // before the order closes this very port
}

// done is the answer of orders that have nothing to tell.
var done = struct{}{}

// orEmpty makes an empty list show as [] instead of null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// readOrder reads an order's JSON object and refuses unknown fields.
func readOrder(r *http.Request, in any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(in); err != nil {
		return fmt.Errorf("the order is no JSON object of the right form: %w", err)
	}
	return nil
}

// readDuration takes Go's form, "" = 0.
func readDuration(field, value string) (time.Duration, error) {
	if value == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is no duration such as 5s", field, value)
	}
	return d, nil
}

// readID returns the number in the path of an order, 0 when it is none.
func readID(r *http.Request) int {
	id, _ := strconv.Atoi(r.PathValue("id"))
	return id
}

func adminRequests(t *Tenant, _ *http.Request) (any, error) {
	counts := map[string]int{}
	for _, op := range Operations() {
		counts[op] = t.Requests(op)
	}
	return counts, nil
}

func adminAlive(t *Tenant, r *http.Request) (any, error) {
	query := r.URL.Query()
	ref := ConnectorRef{AppID: query.Get("app_id"), ConnectorID: query.Get("connector_id")}
	return orEmpty(t.AliveCredentials(ref)), nil
}

func adminRevokeTokens(t *Tenant, _ *http.Request) (any, error) {
	t.RevokeTokens()
	return done, nil
}
