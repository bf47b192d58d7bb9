#!/usr/bin/env bash
# Prints what CHANGELOG.md says about a version. Usage: scripts/release-notes.sh 0.1.0 | Unreleased
set -euo pipefail
cd "$(dirname "$0")/.."
awk -v head="## [${1:?usage: scripts/release-notes.sh VERSION}]" '
  index($0, head) == 1 { found = 1; next }
  found && (/^## / || /^\[[^]]+\]: /) { exit }
  found { text = text $0 "\n" }
  END { gsub(/^\n+|\n+$/, "", text); if (text != "") print text }' CHANGELOG.md
