// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// Existence is what C1's answers prove about one connector credential or decoy.
type Existence struct {
	Gone       bool                 // C1 no longer holds it: positive evidence was seen
	Why        string               // the evidence in words, "" unless Gone
	Credential *ConnectorCredential // as C1 shows it now, nil if it does not
	Decoy      *Decoy               // the same of a decoy
}

// ConnectorCredentialExistence finds out whether C1 still holds a connector
// credential. It is gone when C1 shows it as deleted or expired, or when C1 does not
// know it while it answers for its connector or, if that is gone too, for the
// connectors of its app or, if that is gone as well, for all apps. No error and not
// gone means that C1 shows it alive; an error means that nothing is proven, and its
// Message says why.
func (c *Client) ConnectorCredentialExistence(ctx context.Context, appID, connectorID, credentialID string) (Existence, error) {
	e := evidence{of: aCredential}
	return e.gather(map[question]func() look{
		askObject: func() look {
			cred, err := c.GetConnectorCredential(ctx, appID, connectorID, credentialID)
			e.credential, e.now = cred, c.clock.c1Now()
			return lookAt(true, err)
		},
		askConnector: func() look {
			_, err := c.GetConnector(ctx, appID, connectorID)
			return lookAt(true, err)
		},
		askList: func() look { return lookAt(c.listsConnector(ctx, appID, connectorID)) },
		askApps: func() look { return lookAt(c.listsApp(ctx, appID)) },
	})
}

// DecoyExistence finds out whether C1 still holds a decoy. It is gone when C1
// does not know it while the list of decoys answers without it. No error and not
// gone means that C1 shows it; an error means that nothing is proven, and its
// Message says why.
func (c *Client) DecoyExistence(ctx context.Context, id string) (Existence, error) {
	e := evidence{of: aDecoy}
	return e.gather(map[question]func() look{
		askObject: func() look {
			decoy, err := c.GetDecoy(ctx, id)
			e.decoy = decoy
			return lookAt(true, err)
		},
		askList: func() look { return lookAt(c.listsDecoy(ctx, id)) },
	})
}

// listsDecoy reports whether the first page of C1's list shows this decoy.
func (c *Client) listsDecoy(ctx context.Context, id string) (bool, error) {
	decoys, _, err := c.ListDecoys(ctx)
	for _, decoy := range decoys {
		if decoy.ID == id {
			return true, nil
		}
	}
	return false, err
}

// EndConnectorCredential revokes a connector credential and returns how that is
// known, in words: C1 did so, or it no longer holds the credential. With an
// error it must be taken for alive.
func (c *Client) EndConnectorCredential(ctx context.Context, appID, connectorID, credentialID string) (why string, err error) {
	err = c.RevokeConnectorCredential(ctx, appID, connectorID, credentialID)
	return howEnded(err, func() (Existence, error) {
		return c.ConnectorCredentialExistence(ctx, appID, connectorID, credentialID)
	})
}

// EndOwnCredential revokes a credential of one's own and returns how that is known,
// in words, as EndConnectorCredential does. That C1 does not know the credential
// counts only while the owner's list of credentials answers without it.
func (c *Client) EndOwnCredential(ctx context.Context, o Owner, id string) (why string, err error) {
	err = c.RevokeOwnCredential(ctx, o, id)
	return howEnded(err, func() (Existence, error) { return c.ownCredentialExistence(ctx, o, id) })
}

// ownCredentialExistence finds out whether C1 still holds a credential of one's own.
func (c *Client) ownCredentialExistence(ctx context.Context, o Owner, id string) (Existence, error) {
	e := evidence{of: anOwnCredential}
	return e.gather(map[question]func() look{
		askObject: func() look {
			cred, err := c.OwnCredential(ctx, o, id)
			e.own, e.now = cred, c.clock.c1Now()
			return lookAt(true, err)
		},
		askList: func() look {
			all, err := c.OwnCredentials(ctx, o)
			listed := slices.ContainsFunc(all, func(cred OwnCredential) bool { return cred.ID == id && cred.DeletedAt.IsZero() })
			return lookAt(listed, err)
		},
	})
}

// howEnded says how it is known that a credential has ended, from what revoking it
// brought and, if that says nothing, from what C1 still shows.
func howEnded(revoked error, exists func() (Existence, error)) (why string, err error) {
	if revoked == nil {
		return "C1 revoked it", nil
	}
	refused := *AsError(revoked)
	switch refused.Reason {
	case ReasonNotFound, ReasonRejected, ReasonUnknown:
	default:
		return "", revoked
	}
	found, err := exists()
	switch unseen := AsError(err); {
	case found.Gone:
		return found.Why, nil
	case unseen == nil:
		refused.Message += "; C1 still shows the credential"
	case unseen.concernsEverybody() && refused.Reason != ReasonUnknown:
		return "", err
	default:
		refused.Message += "; whether C1 still holds the credential is not known: " + unseen.Error()
	}
	return "", &refused
}

// subject is what evidence is about.
type subject string

const (
	aCredential     subject = "credential"
	aDecoy          subject = "decoy"
	anOwnCredential subject = "client credential"
)

// question is one request that evidence takes.
type question int

const (
	askNothing   question = iota
	askObject             // GET of the credential or decoy
	askConnector          // GET of its connector
	askList               // GET of the app's connectors, of the decoys, or of one's own credentials
	askApps               // GET of the apps
)

// sight is what one question was answered with.
type sight int

const (
	notAsked sight = iota
	shown          // 200, and it is there
	notThere       // 200 of a list without it
	unknown        // a 404 in C1's own form
	nothing        // anything else, which proves nothing
)

// look is the answer to one question.
type look struct {
	sight sight
	err   *Error // of unknown and nothing
}

// lookAt reads the answer of a call.
func lookAt(there bool, err error) look {
	switch e := AsError(err); {
	case err == nil && there:
		return look{sight: shown}
	case err == nil:
		return look{sight: notThere}
	case e.Reason == ReasonNotFound && e.FromC1 && e.Code == grpcNotFound:
		return look{sight: unknown, err: e}
	default:
		return look{sight: nothing, err: e}
	}
}

// evidence is what was seen of one object so far.
type evidence struct {
	of         subject
	object     look
	connector  look // of a credential only
	list       look
	apps       look // of a credential only
	credential *ConnectorCredential
	decoy      *Decoy
	own        *OwnCredential
	now        time.Time // on C1's clock
}

// gather asks for as much as the judgement takes.
func (e *evidence) gather(ask map[question]func() look) (Existence, error) {
	for {
		next, why, err := e.judge()
		switch next {
		case askObject:
			e.object = ask[askObject]()
		case askConnector:
			e.connector = ask[askConnector]()
		case askList:
			e.list = ask[askList]()
		case askApps:
			e.apps = ask[askApps]()
		default:
			found := Existence{Gone: why != "", Why: why, Credential: e.credential, Decoy: e.decoy}
			if err != nil {
				return found, err
			}
			return found, nil
		}
	}
}

// judge decides what the evidence proves: what to ask next, why the object is
// gone, or why nothing is proven. None of the three means that it is alive. This
// is the only place that believes in the end of anything.
func (e *evidence) judge() (next question, why string, unproven *Error) {
	switch e.object.sight {
	case notAsked:
		return askObject, "", nil
	case shown:
		return askNothing, e.ended(), nil
	case unknown:
	default:
		return askNothing, "", e.object.err.proving("a 404 that is not in C1's own form does not say that the " + string(e.of) + " is gone")
	}
	switch {
	case e.of == anOwnCredential:
		return e.judgeList(askList, e.list, "credentials", "C1 no longer knows it (404), and its list of credentials does not contain it")
	case e.of == aDecoy:
		return e.judgeList(askList, e.list, "decoys", "C1 no longer knows it (404), and its list of decoys does not contain it")
	case e.connector.sight == notAsked:
		return askConnector, "", nil
	case e.connector.sight == shown:
		return askNothing, "C1 no longer knows it (404), but still knows its connector", nil
	case e.connector.sight == nothing:
		return askNothing, "", e.unproven("its connector", e.connector.err)
	case e.list.sight != unknown: // the connector may be gone too
		return e.judgeList(askList, e.list, "the app's connectors", "C1 no longer knows it and its connector (404), and its list of the app's connectors does not contain the connector")
	default: // the app may be gone as well, or connectors be switched off
		return e.judgeList(askApps, e.apps, "apps", "C1 no longer knows it, its connector and its app (404), and its list of apps does not contain the app")
	}
}

// ended says since when C1 shows an object as ended, "" for one that is alive.
func (e *evidence) ended() string {
	var deleted, expires time.Time
	switch {
	case e.credential != nil:
		deleted, expires = e.credential.DeletedAt, e.credential.ExpiresAt
	case e.own != nil:
		deleted, expires = e.own.DeletedAt, e.own.ExpiresAt
	}
	switch {
	case !deleted.IsZero():
		return "C1 shows it as deleted since " + deleted.UTC().Format(time.RFC3339)
	case over(expires, e.now):
		return "C1 shows it as expired since " + expires.UTC().Format(time.RFC3339)
	default:
		return ""
	}
}

// judgeList decides by a list that the object, or what it belongs to, must be
// missing from.
func (e *evidence) judgeList(ask question, list look, of, proof string) (next question, why string, unproven *Error) {
	switch {
	case list.sight == notAsked:
		return ask, "", nil
	case list.sight == notThere:
		return askNothing, proof, nil
	case list.sight == shown && ask == askApps:
		return askNothing, "", e.object.err.proving("yet C1's list of apps shows its app, so connectors may be switched off: this proves nothing")
	case list.sight == shown:
		return askNothing, "", e.object.err.proving("yet C1's list of " + of + " shows it, so this 404 proves nothing")
	default:
		return askNothing, "", e.unproven("the list of "+of, list.err)
	}
}

// unproven is the error when the second look failed: its own when everybody
// has the same trouble now, otherwise the first 404 with the reason why that
// proves nothing.
func (e *evidence) unproven(what string, second *Error) *Error {
	if second.concernsEverybody() {
		return second
	}
	switch second.StatusCode {
	case http.StatusNotFound:
		return e.object.err.proving(what + " answers 404 too, so the feature may be switched off: this proves nothing")
	default:
		return e.object.err.proving("this proves nothing while the request for " + what + " fails too: " + second.Error())
	}
}

// proving returns the error with more words, if it is a 404.
func (e *Error) proving(words string) *Error {
	if e.Reason != ReasonNotFound {
		return e
	}
	more := *e
	more.Message += "; " + words
	return &more
}

// concernsEverybody reports whether an error is about C1 or this client as a
// whole, not about one object.
func (e *Error) concernsEverybody() bool {
	switch e.Reason {
	case ReasonNotSent, ReasonUnavailable, ReasonRateLimited, ReasonIdentity:
		return true
	default:
		return false
	}
}
