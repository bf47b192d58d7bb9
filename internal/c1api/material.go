// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package c1api

// materialKind reads one of the three kinds of material.
type materialKind struct {
	field string
	read  func(object, *DecoyMaterial) (lack string)
}

var materialKinds = []materialKind{
	{"clientCredential", func(o object, m *DecoyMaterial) string {
		id, badID := o.name("clientId", maxClientIDLength)
		secret, badSecret := o.secret("clientSecret", maxSecretLength)
		switch {
		case badID != nil:
			return "a client credential whose clientId " + badID.Error()
		case badSecret != nil:
			return "a client credential whose clientSecret " + badSecret.Error()
		}
		m.ClientCredential = &ClientCredentialMaterial{ClientID: id, ClientSecret: secret}
		return ""
	}},
	{"accessToken", func(o object, m *DecoyMaterial) string {
		token, bad := o.secret("accessToken", maxSecretLength)
		if bad != nil {
			return "an accessToken that " + bad.Error()
		}
		m.AccessToken = &AccessTokenMaterial{AccessToken: token}
		return ""
	}},
	{"workloadFederation", func(o object, m *DecoyMaterial) string {
		trust, bad := o.name("workloadFederationTrustId", maxIDLength)
		if bad != nil {
			return "a workload federation trust whose workloadFederationTrustId " + bad.Error()
		}
		m.WorkloadFederation = &WorkloadFederationMaterial{TrustID: trust}
		return ""
	}},
}

// material reads the material of a decoy, of which C1 sets one kind and may send
// the others as null or with nothing in them. It says what is missing, "" when
// one kind is whole. Half a kind beside a whole one is left out with a warning.
func (o object) material() (m *DecoyMaterial, lack string) {
	m = &DecoyMaterial{}
	whole := 0
	var broken []string // fields that hold something
	for _, kind := range materialKinds {
		one, ok := o.below(kind.field)
		if _, isEmpty := parseObject(o.fields[kind.field]); !ok && !isEmpty {
			continue
		}
		fault := kind.read(one, m)
		if fault == "" {
			whole++
			continue
		}
		if lack == "" {
			lack = fault
		}
		for field := range one.fields {
			if one.has(field) {
				broken = append(broken, kind.field)
				break
			}
		}
	}
	switch {
	case whole > 1:
		return nil, "material of more than one kind"
	case whole == 0 && lack != "":
		return nil, lack
	case whole == 0 && len(o.fields) == 0:
		return nil, "no material"
	case whole == 0:
		return nil, "material of no kind that this client knows"
	}
	for _, field := range broken {
		o.warn(field, "is not whole and was left out")
	}
	return m, ""
}
