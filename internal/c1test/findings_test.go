// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/c1-community/vault-plugin-c1/internal/c1test"
)

// finding is the part of a Finding that tests look at.
type finding struct {
	ID, State, Severity, Fingerprint string
	RecurrenceCount                  int
	FirstObservedAt, LastObservedAt  time.Time
	Annotations                      map[string]string
	DecoyTarget                      struct{ DecoyID string }
	DecoyCredentialUsed              *struct{ DecoyID, Kind string }
	DecoyPubliclyExposed             *struct{ DecoyID, DecoyDisplayName string }
	DecoyPubliclyExposedEvidence     *struct{ FingerprintPrefix string }
}

func (f *fixture) searchFindings(t *testing.T, body string) []finding {
	t.Helper()
	answer := f.call(t, http.MethodPost, "/api/v1/findings/search", body)
	require.Equal(t, http.StatusOK, answer.status, string(answer.body))
	var out struct{ List []finding }
	answer.decode(t, &out)
	return out.List
}

func TestUsesOfADecoyAreOneFindingThatRecurs(t *testing.T) {
	t.Parallel()
	var now clock
	f := start(t, c1test.Options{Now: now.now})
	id := f.NewDecoy(c1test.KindConnectorClient, "Bait", map[string]string{"planted": "ci"})
	old, current := f.rotateDecoy(t, id), f.rotateDecoy(t, id)
	require.Empty(t, f.searchFindings(t, ""))
	require.Error(t, f.use(t, current))
	now.advance(time.Minute)
	patch := `{"decoy":{"annotations":{"planted":"laptop"}},"updateMask":"annotations"}`
	require.Equal(t, http.StatusOK, f.call(t, http.MethodPatch, "/api/v1/decoys/"+id, patch).status)
	require.Error(t, f.use(t, old))

	found := f.searchFindings(t, fmt.Sprintf(`{"decoyIds":[%q]}`, id))
	require.Len(t, found, 1)
	require.Len(t, f.Findings(), 2, "the log has both")
	got := found[0]
	require.Equal(t, 1, got.RecurrenceCount)
	require.Equal(t, clockStart, got.FirstObservedAt)
	require.Equal(t, clockStart.Add(time.Minute), got.LastObservedAt)
	require.Equal(t, id, got.DecoyTarget.DecoyID)
	require.Equal(t, id, got.DecoyCredentialUsed.DecoyID)
	require.Equal(t, "DECOY_CREDENTIAL_KIND_CONNECTOR_CLIENT", got.DecoyCredentialUsed.Kind)
	require.Equal(t, map[string]string{"planted": "laptop"}, got.Annotations)
	require.Equal(t, "FINDING_SEVERITY_CRITICAL", got.Severity)
	require.Nil(t, got.DecoyPubliclyExposed)
	require.Len(t, got.Fingerprint, 64)
	require.NotContains(t, []string{old.Decoy.Fingerprint, current.Decoy.Fingerprint}, got.Fingerprint, "it is no secret's")

	var one struct{ Finding finding }
	f.call(t, http.MethodGet, "/api/v1/findings/"+got.ID, "").decode(t, &one)
	require.Equal(t, got, one.Finding)
	missing := f.call(t, http.MethodGet, "/api/v1/findings/none", "")
	require.Equal(t, http.StatusNotFound, missing.status)
	code, _ := missing.failure(t)
	require.Equal(t, 5, code)
}

func TestExposedDecoyIsFoundByAPrefixOfItsFingerprint(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	id := f.NewDecoy(c1test.KindUserClientCredential, "Bait", nil)
	old, current := f.rotateDecoy(t, id), f.rotateDecoy(t, id)
	raised := f.ExposeDecoy(id, "")
	require.NotEmpty(t, raised)
	found := f.searchFindings(t, `{"findingTypes":["FINDING_TYPE_DECOY_PUBLICLY_EXPOSED"]}`)
	require.Len(t, found, 1)
	require.Equal(t, raised, found[0].ID)
	require.Equal(t, id, found[0].DecoyTarget.DecoyID)
	require.Equal(t, id, found[0].DecoyPubliclyExposed.DecoyID)
	require.Equal(t, "Bait", found[0].DecoyPubliclyExposed.DecoyDisplayName)
	require.Equal(t, current.Decoy.Fingerprint[:12], found[0].DecoyPubliclyExposedEvidence.FingerprintPrefix)
	require.Nil(t, found[0].DecoyCredentialUsed)
	require.Empty(t, f.Findings(), "nobody used it")

	require.Equal(t, raised, f.ExposeDecoy(id, old.Decoy.Fingerprint), "an older copy, the same finding")
	found = f.searchFindings(t, "")
	require.Len(t, found, 1)
	require.Equal(t, 1, found[0].RecurrenceCount)
	require.Equal(t, old.Decoy.Fingerprint[:12], found[0].DecoyPubliclyExposedEvidence.FingerprintPrefix)

	require.Empty(t, f.ExposeDecoy(id, sha("another secret")))
	require.Empty(t, f.ExposeDecoy("none", ""))
	require.Empty(t, f.ExposeDecoy(f.Decoy(c1test.KindWorkloadFederation), ""), "it has no secret")
	require.Equal(t, 2, f.Changes(c1test.OpExposure))
}

func TestFindingsAreSearched(t *testing.T) {
	t.Parallel()
	f := start(t, c1test.Options{})
	var ids []string
	for i := range 3 {
		id := f.NewDecoy(c1test.KindAccessToken, fmt.Sprint("Bait ", i), nil)
		ids = append(ids, id)
		require.Error(t, f.use(t, f.rotateDecoy(t, id)))
	}
	f.ExposeDecoy(ids[0], "")
	for body, want := range map[string]int{
		"": 4, `{}`: 4, `{"decoyIds":null}`: 4, `{"unknown":true}`: 4,
		fmt.Sprintf(`{"decoyIds":[%q,%q]}`, ids[0], ids[1]):                             3,
		fmt.Sprintf(`{"decoyIds":[%q],"findingTypes":["FINDING_TYPE_CUSTOM"]}`, ids[0]): 0,
		`{"findingTypes":["FINDING_TYPE_DECOY_CREDENTIAL_USED"]}`:                       3,
		`{"states":["FINDING_STATE_OPEN","FINDING_STATE_SNOOZED"]}`:                     4,
		`{"states":["FINDING_STATE_RESOLVED"]}`:                                         0,
		`{"severities":["FINDING_SEVERITY_LOW"]}`:                                       0,
		`{"query":"bait 2"}`: 1,
	} {
		assert.Len(t, f.searchFindings(t, body), want, body)
	}
	seen := map[string]bool{}
	for token := ""; ; {
		answer := f.call(t, http.MethodPost, "/api/v1/findings/search", fmt.Sprintf(`{"pageSize":3,"pageToken":%q}`, token))
		var out struct {
			List          []finding
			NextPageToken string
		}
		answer.decode(t, &out)
		for _, found := range out.List {
			seen[found.ID] = true
		}
		if token = out.NextPageToken; token == "" {
			break
		}
	}
	require.Len(t, seen, 4)
}
