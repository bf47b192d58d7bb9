#!/usr/bin/env bash
# Checks that VERSION, CHANGELOG.md and the docs name one version. With a tag,
# also that it may be released. Usage: scripts/release-check.sh [TAG]
set -euo pipefail
cd "$(dirname "$0")/.."
tag=${1:-}

failed=
fail() { echo "release-check: $*" >&2; failed=yes; }

version=$(cat VERSION)
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || fail "VERSION says '$version', which is no version like v1.2.3"
number=${version#v}
repo=https://github.com/c1-community/vault-plugin-c1

# What a reader pastes must register this version; an upgrade may lead to the next one.
IFS=.- read -r major minor _ <<<"$number"
next=$major.$((minor + 1)).0
stale=$(grep -rnoE -- '-(version|plugin-version|command)=[^ ]*v[0-9]+\.[0-9]+[^ ]*|vault-plugin-c1_[0-9]+\.[0-9]+\.[0-9]+|(^version=|download )v[0-9.]+|^ +(version|command) += "[^"]*v[0-9]+\.[0-9]+[^"]*"' \
  README.md SECURITY.md docs/*.md examples | grep -vE "[v_](${number//./\\.}|${next//./\\.})(\"|$)" || true)
[[ -z $stale ]] || fail "neither $version nor v$next in:"$'\n'"$stale"

grep -qF "## [$number]" CHANGELOG.md || fail "CHANGELOG.md has no section [$number]"
[[ -n $(scripts/release-notes.sh "$number") ]] || fail "CHANGELOG.md says nothing about $number"
grep -qxF "[$number]: $repo/releases/tag/$version" CHANGELOG.md || fail "CHANGELOG.md has no link [$number]: …/releases/tag/$version"
grep -qxF "[Unreleased]: $repo/compare/$version...HEAD" CHANGELOG.md || fail "CHANGELOG.md: [Unreleased] must compare $version with HEAD"

if [[ -n $tag ]]; then
  [[ $tag == "$version" ]] || fail "the tag is $tag, but VERSION says $version"
  grep -qE "^## \[${number//./\\.}\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md || fail "CHANGELOG.md: the section [$number] has no date"
  [[ -z $(scripts/release-notes.sh Unreleased) ]] || fail "CHANGELOG.md: [Unreleased] still has notes; move them under [$number]"
  [[ -s docs/release-key.pem ]] || fail "docs/release-key.pem is missing: see Releasing in CONTRIBUTING.md"
  source=$(scripts/source.sh)
  [[ $source =~ ^[0-9a-f]{40}\  ]] || fail "the tree is not one commit: ${source% *}"
fi

[[ -z $failed ]] || exit 1
echo "release-check: ${tag:+tag $tag, }VERSION, CHANGELOG.md and docs agree on $version"
