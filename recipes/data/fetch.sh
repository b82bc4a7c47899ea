#!/usr/bin/env bash
# Fetches a real corpus of several sources from Debian's packages, without root and without installing anything:
# documentation (HTML), the same manual in eight languages (HTML), and Python sources. About 60 MB over the network.
#   recipes/data/fetch.sh [FOLDER]      (default: runs/data-raw)
# Needs apt-get, dpkg-deb and a package list (apt-get update).
set -euo pipefail

out=${1:-runs/data-raw}
for tool in apt-get dpkg-deb; do
    command -v "$tool" > /dev/null || { echo "$tool is missing: run this on Debian or Ubuntu" >&2; exit 2; }
done
if [ -e "$out" ]; then
    echo "$out exists already: delete it to fetch again" >&2
    exit 0
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/smolt-fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT

# unpack PACKAGE...: into $work/NAME
unpack() {
    local package
    for package in "$@"; do
        echo "fetching $package" >&2
        (cd "$work" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$package")
        dpkg-deb -x "$work/${package}"_*.deb "$work/$package"
        rm "$work/${package}"_*.deb
    done
}

# collect SOURCE PATTERN PACKAGE...: files of these packages that match, as SOURCE/PACKAGE/path
collect() {
    local source=$1 pattern=$2 package
    shift 2
    for package in "$@"; do
        mkdir -p "$work/out/$source/$package"
        (cd "$work/$package" && find . -type f -name "$pattern" -size -2M -print0 | tar --null -T - -cf -) |
            tar -xf - -C "$work/out/$source/$package"
    done
}

docs=(git-doc sqlite3-doc bash-doc developers-reference)
python=(python3-django python3-sympy libpython3.11-stdlib python3-docutils)
# The handbook of Python is large and regular: a good test of deduplication.
handbook=(python3.11-doc)
languages=(de es fr it ja pt zh-tw)
unpack "${docs[@]}" "${handbook[@]}" "${python[@]}" debian-reference-en
collect docs '*.html' "${docs[@]}" "${handbook[@]}" debian-reference-en
collect code '*.py' "${python[@]}"
for language in "${languages[@]}"; do
    unpack "debian-reference-$language"
    collect "$language" '*.html' "debian-reference-$language"
done
mkdir -p "$(dirname "$out")"
mv "$work/out" "$out"
du -sh "$out"/* >&2
