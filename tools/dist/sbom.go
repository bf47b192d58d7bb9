// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

const sbomTool = "github.com/CycloneDX/cyclonedx-gomod"

func (r release) writeSBOMs(binaries []binary, libraries []library) error {
	for _, b := range binaries {
		bom, err := r.sbom(b, libraries)
		if err != nil {
			return fmt.Errorf("SBOM of %s: %w", b.name, err)
		}
		var text bytes.Buffer
		encoder := cdx.NewBOMEncoder(&text, cdx.BOMFileFormatJSON).SetPretty(true)
		if err := encoder.EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(r.to, b.name+".cdx.json"), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// sbom reads from the binary what it links. Serial number and time follow from
// the binary and the commit. cyclonedx-gomod's command would draw one, look at
// the clock for the other, and record the sum of itself, which each machine's
// architecture changes; and it would ask the network for licences.
func (r release) sbom(b binary, libraries []library) (*cdx.BOM, error) {
	generator, err := bin.NewGenerator(b.path, bin.WithLogger(zerolog.Nop()),
		bin.WithIncludeStdlib(true), bin.WithVersionOverride(r.version))
	if err != nil {
		return nil, err
	}
	bom, err := generator.Generate()
	if err != nil {
		return nil, err
	}
	digest, err := sum(b.path)
	if err != nil {
		return nil, err
	}
	bom.SerialNumber = uuid.NewSHA1(uuid.NameSpaceURL, []byte(source+"#"+digest)).URN()
	bom.Metadata.Timestamp = r.time.Format(time.RFC3339)
	bom.Metadata.Component.Name = plugin
	bom.Metadata.Component.Licenses = cdxLicences([]string{"MPL-2.0"})
	bom.Metadata.Component.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: digest}}
	bom.Metadata.Tools = &cdx.ToolsChoice{Components: &[]cdx.Component{{
		Type: cdx.ComponentTypeApplication, Name: sbomTool, Version: linkedVersion(sbomTool),
	}}}

	components := *bom.Components
	for i, c := range components {
		if c.Name == "std" {
			components[i].Licenses = cdxLicences([]string{"BSD-3-Clause"})
			continue
		}
		if components[i].Licenses = cdxLicences(licencesOf(c.Name, libraries)); components[i].Licenses == nil {
			return nil, fmt.Errorf("no licence found for %s", c.Name)
		}
	}
	return bom, nil
}

func cdxLicences(names []string) *cdx.Licenses {
	if len(names) == 0 {
		return nil
	}
	all := make(cdx.Licenses, 0, len(names))
	for _, n := range names {
		all = append(all, cdx.LicenseChoice{License: &cdx.License{ID: n}})
	}
	return &all
}

// licencesOf collects the licences of a module's packages.
func licencesOf(module string, libraries []library) []string {
	var names []string
	seen := map[string]bool{}
	for _, l := range libraries {
		if l.Name != module && !strings.HasPrefix(l.Name, module+"/") && !strings.HasPrefix(module, l.Name+"/") {
			continue
		}
		for _, n := range l.Licences {
			if !seen[n] {
				names = append(names, n)
			}
			seen[n] = true
		}
	}
	return names
}

// linkedVersion says which version of a module this program links.
func linkedVersion(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, d := range info.Deps {
		if d.Path == module {
			return d.Version
		}
	}
	return ""
}
