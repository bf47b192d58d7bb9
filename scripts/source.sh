#!/usr/bin/env bash
# Prints the commit that this source is, and its time in seconds: from git, or
# from .source in a source archive. "-dirty" follows where a checkout holds
# anything that the commit does not.
set -euo pipefail
cd "$(dirname "$0")/.."

commit=unknown time=0
if [[ -e .git ]]; then
  # Without git, or in a checkout that git does not trust, it stays unknown.
  if line=$(git log -1 --format='%H %ct' 2>/dev/null); then
    read -r commit time <<<"$line"
    [[ -z $(git status --porcelain) ]] || commit+=-dirty
  fi
elif line=$(cat .source 2>/dev/null) && [[ $line =~ ^[0-9a-f]{40}\ [0-9]+$ ]]; then
  read -r commit time <<<"$line"
fi
echo "$commit $time"
