#!/usr/bin/env bash
# Makes the release of HEAD twice, from a clone and from a source archive without
# git, in other places and under another environment, and compares each byte. The
# second build and all else that docs/verify.md tells readers is run as it stands there.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

[[ -z $(git status --porcelain) ]] || echo "dist-check builds HEAD; what is not committed is not in it" >&2

clone=$work/a
git clone -q "$root" "$clone"
archive=$work/download/vault-plugin-c1 # a longer path, where docs/verify.md has its clone
mkdir -p "$archive"
git archive HEAD | tar -x -C "$archive"
[[ ! -e $archive/.git ]]
for dir in "$clone" "$archive"; do # built already: saves minutes
  mkdir -p "$dir/bin"
  [[ ! -x bin/goreleaser ]] || cp -p bin/goreleaser "$dir/bin/"
done

echo "== from a clone"
(umask 077; cd "$clone"; GOFLAGS=-buildvcs=true TZ=Asia/Tokyo make -s dist)
grep -q gitCommit "$clone"/dist/*_provenance.intoto.json || { echo "the release of a clean clone calls itself dirty" >&2; exit 1; }

echo "== from a source archive, and by docs/verify.md"
cd "$work/download"
cp -p "$clone"/dist/* .
openssl ecparam -genkey -name prime256v1 -noout -out "$work/key.pem" # stands in for the project's
openssl ec -in "$work/key.pem" -pubout -out release-key.pem 2>/dev/null
openssl dgst -sha256 -sign "$work/key.pem" -out SHA256SUMS.sig SHA256SUMS
awk '
  /^<!-- not run: / { skip = 1 }
  /^```sh$/         { code = !skip; skip = 0; next }
  /^```$/           { code = 0 }
  code' "$root/docs/verify.md" >"$work/verify.sh"
(($(wc -l <"$work/verify.sh") > 10)) || { echo "no commands found in docs/verify.md" >&2; exit 1; }
# Read from a file, so that no command can eat the ones after it.
bash -euxo pipefail "$work/verify.sh" </dev/null

echo "== byte for byte"
diff -r "$clone/dist" "$archive/dist"
modes() { (cd "$1" && find . -type f -printf '%m %p\n' | sort -k2); }
diff <(modes "$clone/dist") <(modes "$archive/dist")

echo "== and a changed byte is noticed"
victim=$(find . -maxdepth 1 -name '*_linux_amd64')
printf 'x' | dd of="$victim" bs=1 seek=4096 conv=notrunc status=none
if cmp -s "$clone/dist/$victim" "$victim" || sha256sum --check --status SHA256SUMS; then
  echo "the comparison does not see a changed byte" >&2
  exit 1
fi
echo >>SHA256SUMS
if openssl dgst -sha256 -verify release-key.pem -signature SHA256SUMS.sig SHA256SUMS >/dev/null; then
  echo "the signature fits changed sums" >&2
  exit 1
fi

files=$(find "$clone/dist" -type f | wc -l)
echo "dist-check: $files files, the same bytes from a clone and from a source archive"
