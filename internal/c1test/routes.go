// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"net/http"
	"net/url"
	"strings"
)

// Names of the API's operations, for Requests, Fault, Hold and the journal.
const (
	OpToken                     = "token"
	OpIntrospect                = "introspect"
	OpListApps                  = "listApps"
	OpListConnectors            = "listConnectors"
	OpGetConnector              = "getConnector"
	OpRotateConnector           = "rotateConnector"
	OpGetConnectorCredential    = "getConnectorCredential"
	OpRevokeConnectorCredential = "revokeConnectorCredential"
	OpGetDecoy                  = "getDecoy"
	OpListDecoys                = "listDecoys"
	OpSearchDecoys              = "searchDecoys"
	OpCreateDecoy               = "createDecoy"
	OpUpdateDecoy               = "updateDecoy"
	OpDeleteDecoy               = "deleteDecoy"
	OpRotateDecoy               = "rotateDecoy"
	OpGetFinding                = "getFinding"
	OpSearchFindings            = "searchFindings"

	OpListServicePrincipalCredentials  = "listServicePrincipalCredentials"
	OpCreateServicePrincipalCredential = "createServicePrincipalCredential"
	OpGetServicePrincipalCredential    = "getServicePrincipalCredential"
	OpUpdateServicePrincipalCredential = "updateServicePrincipalCredential"
	OpDeleteServicePrincipalCredential = "deleteServicePrincipalCredential"
	OpListPersonalClients              = "listPersonalClients"
	OpCreatePersonalClient             = "createPersonalClient"
	OpGetPersonalClient                = "getPersonalClient"
	OpUpdatePersonalClient             = "updatePersonalClient"
	OpDeletePersonalClient             = "deletePersonalClient"

	opUnknown = "unknown"
)

// Operations returns the names of all operations, each once.
func Operations() []string {
	return []string{
		OpToken, OpIntrospect,
		OpListApps, OpListConnectors, OpGetConnector, OpRotateConnector, OpGetConnectorCredential, OpRevokeConnectorCredential,
		OpGetDecoy, OpListDecoys, OpSearchDecoys, OpCreateDecoy, OpUpdateDecoy, OpDeleteDecoy, OpRotateDecoy,
		OpGetFinding, OpSearchFindings,
		OpListServicePrincipalCredentials, OpCreateServicePrincipalCredential, OpGetServicePrincipalCredential,
		OpUpdateServicePrincipalCredential, OpDeleteServicePrincipalCredential,
		OpListPersonalClients, OpCreatePersonalClient, OpGetPersonalClient, OpUpdatePersonalClient, OpDeletePersonalClient,
	}
}

const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
)

// route is one operation of the API.
type route struct {
	op      string
	method  string
	path    string  // as in openapi.yaml; a segment in braces matches any one segment
	feature Feature // answers 404 in tenants without it, "" = always there
	handle  func(*Tenant, *request) answer
}

const (
	pathConnector  = "/api/v1/apps/{app_id}/connectors/{id}"
	pathCredential = "/api/v1/apps/{app_id}/connectors/{connector_id}/credentials/{id}"
	pathDecoy      = "/api/v1/decoys/{id}"

	pathOwnCredentials  = "/api/v1/service_principals/{service_principal_id}/credentials"
	pathOwnCredential   = pathOwnCredentials + "/{id}"
	pathPersonalClients = "/api/v1/iam/personal_clients"
	pathPersonalClient  = pathPersonalClients + "/{id}"
)

var routes = []route{
	{OpToken, http.MethodPost, "/auth/v1/token", "", (*Tenant).handleToken},
	{OpIntrospect, http.MethodGet, "/api/v1/auth/introspect", "", (*Tenant).handleIntrospect},

	{OpListApps, http.MethodGet, "/api/v1/apps", "", (*Tenant).handleListApps},
	{OpRotateConnector, http.MethodPost, "/api/v1/apps/connectors/credentials", FeatureConnectors, (*Tenant).handleRotateConnector},
	{OpListConnectors, http.MethodGet, "/api/v1/apps/{app_id}/connectors", FeatureConnectors, (*Tenant).handleListConnectors},
	{OpGetConnector, http.MethodGet, pathConnector, FeatureConnectors, (*Tenant).handleGetConnector},
	{OpGetConnectorCredential, http.MethodGet, pathCredential, FeatureConnectors, (*Tenant).handleGetConnectorCredential},
	{OpRevokeConnectorCredential, http.MethodPost, pathCredential, FeatureConnectors, (*Tenant).handleRevokeConnectorCredential},

	{OpListDecoys, http.MethodGet, "/api/v1/decoys", FeatureDecoys, (*Tenant).handleListDecoys},
	{OpSearchDecoys, http.MethodPost, "/api/v1/decoys/search", FeatureDecoys, (*Tenant).handleSearchDecoys},
	{OpCreateDecoy, http.MethodPost, "/api/v1/decoys", FeatureDecoys, (*Tenant).handleCreateDecoy},
	{OpGetDecoy, http.MethodGet, pathDecoy, FeatureDecoys, (*Tenant).handleGetDecoy},
	{OpUpdateDecoy, http.MethodPatch, pathDecoy, FeatureDecoys, (*Tenant).handleUpdateDecoy},
	{OpDeleteDecoy, http.MethodDelete, pathDecoy, FeatureDecoys, (*Tenant).handleDeleteDecoy},
	{OpRotateDecoy, http.MethodPost, pathDecoy + "/rotate", FeatureDecoys, (*Tenant).handleRotateDecoy},

	{OpSearchFindings, http.MethodPost, "/api/v1/findings/search", FeatureFindings, (*Tenant).handleSearchFindings},
	{OpGetFinding, http.MethodGet, "/api/v1/findings/{id}", FeatureFindings, (*Tenant).handleGetFinding},

	{OpListServicePrincipalCredentials, http.MethodGet, pathOwnCredentials, "", (*Tenant).handleListOwnCredentials},
	{OpCreateServicePrincipalCredential, http.MethodPost, pathOwnCredentials, "", (*Tenant).handleCreateOwnCredential},
	{OpGetServicePrincipalCredential, http.MethodGet, pathOwnCredential, "", (*Tenant).handleGetOwnCredential},
	{OpUpdateServicePrincipalCredential, http.MethodPatch, pathOwnCredential, "", (*Tenant).handleUpdateOwnCredential},
	{OpDeleteServicePrincipalCredential, http.MethodDelete, pathOwnCredential, "", (*Tenant).handleDeleteOwnCredential},

	{OpListPersonalClients, http.MethodGet, pathPersonalClients, "", (*Tenant).handleListPersonalClients},
	{OpCreatePersonalClient, http.MethodPost, pathPersonalClients, "", (*Tenant).handleCreatePersonalClient},
	{OpGetPersonalClient, http.MethodGet, pathPersonalClient, "", (*Tenant).handleGetPersonalClient},
	{OpUpdatePersonalClient, http.MethodPost, pathPersonalClient, "", (*Tenant).handleUpdatePersonalClient},
	{OpDeletePersonalClient, http.MethodDelete, pathPersonalClient, "", (*Tenant).handleDeletePersonalClient},
}

// findRoute returns the route of a request with the IDs in its path,
// unescaped, or nil when C1 has no such operation.
func findRoute(method string, u *url.URL) (*route, map[string]string) {
	for i := range routes {
		r := &routes[i]
		if r.method != method {
			continue
		}
		if params, ok := matchPath(r.path, u.EscapedPath()); ok {
			return r, params
		}
	}
	return nil, nil
}

// matchPath compares segment by segment before unescaping, so that an ID with
// an escaped slash stays one ID.
func matchPath(pattern, path string) (map[string]string, bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	params := map[string]string{}
	for i, segment := range want {
		name, isParam := strings.CutPrefix(segment, "{")
		if !isParam {
			if got[i] != segment {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(got[i])
		if err != nil || value == "" {
			return nil, false
		}
		params[strings.TrimSuffix(name, "}")] = value
	}
	return params, true
}
