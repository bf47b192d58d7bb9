// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// writeProvenance states what was built from what, as SLSA provenance. Being
// the same wherever it is made, it names no machine and is not signed: the
// release workflow attests who ran this.
func (r release) writeProvenance() error {
	statement, err := r.provenance()
	if err != nil {
		return err
	}
	// protojson varies its spacing on purpose; encoding/json sorts and does not.
	text, err := protojson.Marshal(statement)
	if err != nil {
		return err
	}
	var content any
	if err := json.Unmarshal(text, &content); err != nil {
		return err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(content); err != nil {
		return err
	}
	return writeFile(filepath.Join(r.to, r.file("provenance.intoto.json")), out.Bytes(), 0o644)
}

func (r release) provenance() (*intoto.Statement, error) {
	names, err := r.published()
	if err != nil {
		return nil, err
	}
	subjects := make([]*intoto.ResourceDescriptor, 0, len(names))
	for _, n := range names {
		digest, err := sum(filepath.Join(r.to, n))
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, &intoto.ResourceDescriptor{Name: n, Digest: map[string]string{"sha256": digest}})
	}
	definition, err := r.buildDefinition()
	if err != nil {
		return nil, err
	}
	predicate := &slsa.Provenance{
		BuildDefinition: definition,
		RunDetails:      &slsa.RunDetails{Builder: &slsa.Builder{Id: source + "/blob/" + r.version + "/scripts/dist.sh"}},
	}
	if err := predicate.Validate(); err != nil {
		return nil, err
	}
	text, err := protojson.Marshal(predicate)
	if err != nil {
		return nil, err
	}
	fields := &structpb.Struct{}
	if err := protojson.Unmarshal(text, fields); err != nil {
		return nil, err
	}
	statement := &intoto.Statement{
		Type:          intoto.StatementTypeUri,
		Subject:       subjects,
		PredicateType: "https://slsa.dev/provenance/v1",
		Predicate:     fields,
	}
	return statement, statement.Validate()
}

// buildDefinition names all that goes in: the commit, the compiler, and by the
// sums in go.sum every module.
func (r release) buildDefinition() (*slsa.BuildDefinition, error) {
	parameters, err := structpb.NewStruct(map[string]any{"command": "make dist", "version": r.version})
	if err != nil {
		return nil, err
	}
	code := &intoto.ResourceDescriptor{Name: "source", Uri: "git+" + source}
	// Of an unclean tree the commit does not say what was built.
	if len(r.commit) == 40 {
		code.Digest = map[string]string{"gitCommit": r.commit}
	}
	dependencies := []*intoto.ResourceDescriptor{
		code,
		{Name: "go", Uri: fmt.Sprintf("pkg:golang/std@%s", strings.TrimPrefix(runtime.Version(), "go"))},
	}
	for _, name := range []string{"go.sum", "tools/dist/go.sum", "tools/goreleaser/go.sum"} {
		digest, err := sum(filepath.Join(r.root, name))
		if err != nil {
			return nil, err
		}
		dependencies = append(dependencies, &intoto.ResourceDescriptor{Name: name, Digest: map[string]string{"sha256": digest}})
	}
	return &slsa.BuildDefinition{
		BuildType:            source + "/blob/" + r.version + "/docs/verify.md#build-it-yourself",
		ExternalParameters:   parameters,
		ResolvedDependencies: dependencies,
	}, nil
}
