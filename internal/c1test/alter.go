// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1test

// alter takes out of an answer what the fault says; the state stays as it is.
func (f Fault) alter(a answer) answer {
	switch body := a.body.(type) {
	case *connectorCredentialAnswer:
		switch {
		case f.OmitMaterial:
			body.Credential = nil
		case f.OmitSecret:
			body.Credential.ClientSecret = ""
		}
	case *decoyAnswer:
		if f.WrongFingerprint {
			body.Decoy.Fingerprint = fingerprint("not the secret")
		}
	case *vendingAnswer:
		if f.WrongFingerprint {
			body.Decoy.Fingerprint = fingerprint("not the secret")
		}
		if f.OmitSecret {
			body.Material.omitSecret()
		}
		if f.OmitMaterial {
			body.Material = nil
		}
	}
	return a
}

func (m *materialJSON) omitSecret() {
	switch {
	case m.ClientCredential != nil:
		m.ClientCredential.ClientSecret = ""
	case m.AccessToken != nil:
		m.AccessToken.AccessToken = ""
	case m.WorkloadFederation != nil:
		m.WorkloadFederation.TrustID = ""
	}
}
