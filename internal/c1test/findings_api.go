// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

const (
	findingOpen     = "FINDING_STATE_OPEN"
	findingCritical = "FINDING_SEVERITY_CRITICAL"
	findingDetector = "FINDING_SOURCE_KIND_DETECTOR"
)

// findingJSON is C1's Finding without the payloads that are not about decoys.
type findingJSON struct {
	ID                           string               `json:"id"`
	State                        string               `json:"state"`
	Severity                     string               `json:"severity"`
	SourceKind                   string               `json:"sourceKind"`
	SourceDetectorID             string               `json:"sourceDetectorId"`
	Fingerprint                  string               `json:"fingerprint"` // what deduplicates, not the secret's
	AppID                        string               `json:"appId"`
	Description                  string               `json:"description"`
	RemediationDescription       string               `json:"remediationDescription"`
	StateUpdatedByID             string               `json:"stateUpdatedById"`
	SnoozeReason                 string               `json:"snoozeReason"`
	SuppressReason               string               `json:"suppressReason"`
	RiskAcceptanceJustification  string               `json:"riskAcceptanceJustification"`
	TaskID                       string               `json:"taskId"`
	CustomSubType                string               `json:"customSubType"`
	Annotations                  map[string]string    `json:"annotations"`
	CustomTags                   map[string]string    `json:"customTags"`
	DedupKeyParts                []string             `json:"dedupKeyParts"`
	RecurrenceCount              int                  `json:"recurrenceCount"`
	CreatedAt                    time.Time            `json:"createdAt"`
	UpdatedAt                    time.Time            `json:"updatedAt"`
	FirstObservedAt              time.Time            `json:"firstObservedAt"`
	LastObservedAt               time.Time            `json:"lastObservedAt"`
	LastAppearedAt               time.Time            `json:"lastAppearedAt"`
	ResolvedAt                   *time.Time           `json:"resolvedAt"`
	SnoozeUntil                  *time.Time           `json:"snoozeUntil"`
	RiskAcceptanceExpiresAt      *time.Time           `json:"riskAcceptanceExpiresAt"`
	DecoyTarget                  decoyTargetJSON      `json:"decoyTarget"`
	DecoyCredentialUsed          *decoyUsedJSON       `json:"decoyCredentialUsed"`
	DecoyPubliclyExposed         *decoyExposedJSON    `json:"decoyPubliclyExposed"`
	DecoyPubliclyExposedEvidence *exposedEvidenceJSON `json:"decoyPubliclyExposedEvidence"`
}

type decoyTargetJSON struct {
	DecoyID string `json:"decoyId"`
}

type decoyUsedJSON struct {
	DecoyID string `json:"decoyId"`
	Kind    string `json:"kind"`
}

type decoyExposedJSON struct {
	DecoyID          string `json:"decoyId"`
	DecoyDisplayName string `json:"decoyDisplayName"`
}

type exposedEvidenceJSON struct {
	FingerprintPrefix string     `json:"fingerprintPrefix"`
	FirstScannerID    string     `json:"firstScannerId"`
	ReportingScanners []string   `json:"reportingScanners"`
	SourceKind        string     `json:"sourceKind"`
	SourceURL         string     `json:"sourceUrl"`
	FirstObservedAt   time.Time  `json:"firstObservedAt"`
	CredentialRevoked bool       `json:"credentialRevoked"`
	RevokedAt         *time.Time `json:"revokedAt"`
}

func (f *findingRecord) json() *findingJSON {
	d := f.decoy
	out := &findingJSON{
		ID: f.id, State: findingOpen, Severity: findingCritical, SourceKind: findingDetector,
		SourceDetectorID: strings.ToLower(strings.TrimPrefix(string(f.kind), "FINDING_TYPE_")),
		Fingerprint:      fingerprint(string(f.kind) + "/" + d.id),
		Annotations:      f.annotations, CustomTags: f.annotations, DedupKeyParts: []string{},
		RecurrenceCount: f.recurrences,
		CreatedAt:       f.first.UTC(), UpdatedAt: f.last.UTC(),
		FirstObservedAt: f.first.UTC(), LastObservedAt: f.last.UTC(), LastAppearedAt: f.last.UTC(),
		DecoyTarget: decoyTargetJSON{DecoyID: d.id},
	}
	switch f.kind {
	case findingDecoyUsed:
		kind := strings.Replace(string(d.kind), "DECOY_KIND_", "DECOY_CREDENTIAL_KIND_", 1)
		out.DecoyCredentialUsed = &decoyUsedJSON{DecoyID: d.id, Kind: kind}
	case findingDecoyExposed:
		const scanner = "github"
		out.DecoyPubliclyExposed = &decoyExposedJSON{DecoyID: d.id, DecoyDisplayName: d.displayName}
		out.DecoyPubliclyExposedEvidence = &exposedEvidenceJSON{
			FingerprintPrefix: f.exposedPrefix, FirstScannerID: scanner, ReportingScanners: []string{scanner},
			SourceKind: "commit", SourceURL: "https://github.example/acme/infra", FirstObservedAt: f.first.UTC(),
		}
	}
	return out
}

type findingAnswer struct {
	Finding  *findingJSON `json:"finding"`
	Expanded []any        `json:"expanded"`
}

// handleGetFinding is GET /api/v1/findings/{id}.
func (t *Tenant) handleGetFinding(rq *request) answer {
	for _, f := range t.findings {
		if f.id == rq.ids["id"] {
			return ok200(&findingAnswer{Finding: f.json(), Expanded: []any{}})
		}
	}
	return notFound("finding")
}

// searchFindingsRequest is the part of C1's FindingSearchRequest that the
// emulator knows. Lists are alternatives, an empty one filters nothing.
type searchFindingsRequest struct {
	Query        string   `json:"query"`
	DecoyIDs     []string `json:"decoyIds"`
	FindingTypes []string `json:"findingTypes"`
	States       []string `json:"states"`
	Severities   []string `json:"severities"`
	PageSize     int      `json:"pageSize"`
	PageToken    string   `json:"pageToken"`
}

type findingList struct {
	List          []*findingJSON `json:"list"`
	NextPageToken string         `json:"nextPageToken"`
}

// handleSearchFindings is POST /api/v1/findings/search.
func (t *Tenant) handleSearchFindings(rq *request) answer {
	var in searchFindingsRequest
	err := decode(rq.body, &in, "query", "decoyIds", "findingTypes", "states", "severities", "pageSize", "pageToken")
	if err != nil {
		return badRequest("%v", err)
	}
	page, err := newPage(in.PageSize, in.PageToken)
	if err != nil {
		return badRequest("%v", err)
	}
	for field, filter := range map[string]*[]string{
		"findingTypes": &in.FindingTypes, "states": &in.States, "severities": &in.Severities,
	} {
		if *filter, err = knownValues(field, *filter, findingEnums[field]); err != nil {
			return badRequest("%v", err)
		}
	}
	var all []*findingRecord
	for _, f := range t.findings {
		if in.matches(f) {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b *findingRecord) int { return cmp.Compare(a.id, b.id) })
	shown, next := cut(page, all, func(f *findingRecord) string { return f.id })
	out := findingList{List: []*findingJSON{}, NextPageToken: next}
	for _, f := range shown {
		out.List = append(out.List, f.json())
	}
	return ok200(out)
}

func (in searchFindingsRequest) matches(f *findingRecord) bool {
	text := strings.ToLower(f.decoy.displayName + "\n" + string(f.kind))
	return strings.Contains(text, strings.ToLower(in.Query)) &&
		isOneOf(f.decoy.id, in.DecoyIDs) &&
		isOneOf(string(f.kind), in.FindingTypes) &&
		isOneOf(findingOpen, in.States) &&
		isOneOf(findingCritical, in.Severities)
}

// findingEnums are the values that C1 publishes, by the search's fields.
var findingEnums = map[string][]string{
	"findingTypes": {
		"FINDING_TYPE_SIMILAR_USERNAME_MATCH", "FINDING_TYPE_SERVICE_ACCOUNT_MISCLASSIFICATION",
		"FINDING_TYPE_NHI_UNOWNED", "FINDING_TYPE_SERVICE_ACCOUNT_UNOWNED", string(findingDecoyUsed),
		"FINDING_TYPE_CUSTOM", "FINDING_TYPE_CONNECTOR_ANOMALY_DETECTION_DISABLED",
		"FINDING_TYPE_DEACTIVATED_OWNER", "FINDING_TYPE_UNUSED_SECRET",
		"FINDING_TYPE_CREDENTIAL_PUBLICLY_EXPOSED", string(findingDecoyExposed), "FINDING_TYPE_CREDENTIAL_EXPIRING",
	},
	"states": {
		findingOpen, "FINDING_STATE_IN_PROGRESS", "FINDING_STATE_RESOLVED", "FINDING_STATE_SNOOZED",
		"FINDING_STATE_RISK_ACCEPTED", "FINDING_STATE_SUPPRESSED",
	},
	"severities": {
		"FINDING_SEVERITY_INFO", "FINDING_SEVERITY_LOW", "FINDING_SEVERITY_MEDIUM", "FINDING_SEVERITY_HIGH", findingCritical,
	},
}
