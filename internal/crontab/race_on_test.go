// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

//go:build race

package crontab

const raceEnabled = true
