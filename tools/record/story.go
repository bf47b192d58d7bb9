// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

package main

// step is what is shown of a step of the demo. All of it must be there, in this order.
type step struct {
	heading  string // the whole line
	commands []command
}

// command is a command of a step. Others of the step are left out.
type command struct {
	contains string   // part of the command line
	output   []string // how lines of its output begin; those between become an ellipsis
	point    string   // how the line begins that the reader should not miss, one of output
}

// story is what the recording shows: a screen after the other, of one or more steps.
// The last one is the picture where nothing moves.
var story = [][]step{
	{
		{"Configure: the mount's own C1 identity; the secret comes from a file", []command{
			{"vault write c1/config ", []string{"Success!"}, ""},
		}},
		{"Bind: a name for a connector, a name for a decoy; nothing rotates yet", []command{
			{"vault write c1/connectors/github ", []string{"Success!"}, ""},
			{"vault write c1/decoys/bait ", []string{"Success!"}, ""},
		}},
	},
	{
		{"A read rotates the connector's credential, and hands it out with a lease", []command{
			{"vault read c1/connector-creds/github", []string{
				"Key ", "---", "lease_id ", "client_id ", "client_secret ", "fingerprint_sha256 ", "version ",
			}, "client_secret "},
			{"c1-emulator login ", []string{"login succeeded"}, ""},
		}},
		{"The lease ends, and with it exactly that credential at C1", []command{
			{"vault lease revoke ", []string{"Success!"}, ""},
			{"c1-emulator login ", []string{"login failed"}, ""},
		}},
	},
	{
		{"A decoy: reading is refused, so that nobody rotates bait by accident; a write vends it", []command{
			{"vault read c1/decoy-creds/bait", []string{"Error ", "* "}, ""},
			{"vault write c1/decoy-creds/bait ", []string{
				"Key ", "---", "client_id ", "client_secret ", "decoy_id ", "fingerprint_sha256 ",
			}, "fingerprint_sha256 "},
		}},
	},
	{
		{"A thief finds the bait and tries it: C1 refuses, and raises a finding", []command{
			{"c1-emulator login ", []string{"login failed"}, ""},
			{"c1-emulator findings ", []string{
				`"decoy_id":`, `"severity":`, `"fingerprint":`, `"source_ip":`, `"endpoint":`,
			}, `"fingerprint":`},
		}},
		{"Whose copy was it? A finding names the decoy", []command{
			{"vault write -format=json c1/lookup ", []string{
				`"binding":`, `"display_name":`, `"fingerprint_sha256":`, `"placement":`,
			}, `"placement":`},
		}},
	},
}
