// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1

import (
	"context"
	"fmt"

	"github.com/c1-community/vault-plugin-c1/internal/c1api"
	"github.com/c1-community/vault-plugin-c1/internal/target"
)

// connectorKind: C1 has no way to tell what became of a rotation whose answer was lost,
// and revokes each credential by its ID.
type connectorKind struct {
	bindable
	endedByID
}

func (connectorKind) get(ctx context.Context, s *session, ref target.Ref) (*c1api.Decoy, error) {
	_, err := s.client.GetConnector(ctx, ref.AppID, ref.ConnectorID)
	return nil, err
}

func (connectorKind) rotate(ctx context.Context, t *turn, o *order) (*material, error) {
	c, err := o.session.client.RotateConnectorCredential(ctx, t.ref.AppID, t.ref.ConnectorID)
	if err != nil {
		return nil, err
	}
	return connectorMaterial(t.ref, c), nil
}

func (connectorKind) endUnused(ctx context.Context, t *turn, s *session, credentialID string) (bool, error) {
	err := t.revokeAtC1(ctx, s, t.ref, credentialID)
	return err == nil, err
}

func (connectorKind) resolve(_ context.Context, _ *turn, state *target.State, _ *settled) (*target.State, verdict, error) {
	return state.Undecidable(), goOn, nil
}

func (connectorKind) see(ctx context.Context, s *session, state *target.State) (sight, error) {
	shown := sight{state: state}
	found, err := s.client.ConnectorCredentialExistence(ctx, state.Ref.AppID, state.Ref.ConnectorID, state.Current.CredentialID)
	switch {
	case err != nil || !found.Gone:
	case found.Credential != nil && found.Credential.DeletedAt.IsZero():
		shown.Drift = "the credential expired at " + rfc3339(found.Credential.ExpiresAt) + "; rotate again"
	default:
		shown.Drift = fmt.Sprintf("C1 no longer holds the vended credential (%s): %s; rotate again", found.Why, vendedBefore(state))
	}
	return shown, err
}

func (connectorKind) end(ctx context.Context, _ *backend, s *session, ref target.Ref, credentialID string) (why string, err error) {
	return s.client.EndConnectorCredential(ctx, ref.AppID, ref.ConnectorID, credentialID)
}
