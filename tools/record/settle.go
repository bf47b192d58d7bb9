// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"regexp"
)

// rule says by what a value is replaced that differs from run to run, or that is longer
// than a reader wants it. The first replacement stands for the first value that turns
// up, the second one for another value: what was the same stays the same.
type rule struct {
	what *regexp.Regexp // its first group stays
	by   []string
}

// Secrets and IDs are cut short, which also keeps secret scanners quiet.
var rules = []rule{
	{regexp.MustCompile(`(secret-token:conductorone\.com:v1:)[\w-]+`), []string{"…", "…"}},
	{regexp.MustCompile(`(-creds/[\w-]+/)[0-9A-Za-z]{24}\b`), []string{"Rx5GPSxy…"}},
	{regexp.MustCompile(`()\b[0-9a-f]{64}\b`), []string{"08b820b93a946f31…", "bfb2b9ddb2d2e7cc…"}},
	{regexp.MustCompile(`()\b[0-9A-Za-z]{27}\b`), []string{"3Mhotzs0…", "3MhouA7m…", "3Mhou1RH…"}},
	{regexp.MustCompile(`()\b[a-z]+-[a-z]+-[0-9]{5}\b`), []string{"witty-hydra-18051", "brave-otter-07630", "clever-lynx-69062"}},
	{regexp.MustCompile(`(127\.0\.0\.1:)[0-9]+\b`), []string{"8443"}}, // C1's port; Vault's is not shown
}

// unsettled is what looks like a secret, an ID or a date that no rule knows.
var unsettled = regexp.MustCompile(`[0-9A-Za-z_-]{32,}|\b[0-9A-Za-z]{20,}\b|\b20\d\d-\d\d-\d\d`)

// settle replaces in place what another run of the demo would show otherwise.
func settle(screens [][]line) error {
	known := make([]map[string]string, len(rules))
	for _, screen := range screens {
		for i := range screen {
			l := &screen[i]
			for n, r := range rules {
				if known[n] == nil {
					known[n] = map[string]string{}
				}
				text, err := r.apply(l.text, known[n])
				if err != nil {
					return err
				}
				l.text = text
			}
			if unsettled.MatchString(l.text) {
				return fmt.Errorf("no rule of tools/record/settle.go settles %q", l.text)
			}
		}
	}
	return nil
}

func (r rule) apply(text string, known map[string]string) (string, error) {
	var err error
	text = r.what.ReplaceAllStringFunc(text, func(whole string) string {
		stays := r.what.FindStringSubmatch(whole)[1]
		value := whole[len(stays):]
		if _, ok := known[value]; !ok {
			if len(known) == len(r.by) {
				err = fmt.Errorf("tools/record/settle.go has too few replacements for %s", r.what)
				return whole
			}
			known[value] = r.by[len(known)]
		}
		return stays + known[value]
	})
	return text, err
}
