#!/usr/bin/env bash
# Fetches perf_analyzer, the load generator of Triton's users, and makes DIRECTORY/perf_analyzer, which runs it:
#
#   tests/clients/perf_analyzer.sh PYTHON DIRECTORY
#
# The program wants a newer C library than Debian 12 has. Where it does not start by itself, the libraries of a newer
# Debian are put beside it, from the package source that this machine uses; nothing is installed.
set -euo pipefail

suite=trixie
requirement="$(dirname "${BASH_SOURCE[0]}")/perf_analyzer.txt"
python="$1"
mkdir -p "$2"
directory="$(cd "$2" && pwd)"

fail() {
    echo "perf_analyzer.sh: $1" >&2
    exit 1
}

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || fail "perf_analyzer is made for Linux on x86-64 only, this is $(uname -sm)"
work="$(mktemp -d "${directory}/fetch.XXXXXX")"
trap 'rm -rf "${work}"' EXIT

"${python}" -m pip download --quiet --disable-pip-version-check --no-deps --dest "${work}" \
    --platform manylinux_2_38_x86_64 --only-binary :all: --requirement "${requirement}" \
    || fail "the package of ${requirement} could not be downloaded with pip: is there a network?"
"${python}" -m zipfile --extract "${work}"/perf_analyzer-*.whl "${work}/wheel"
program="${directory}/program"
cp "${work}/wheel/perf_analyzer/bin/perf_analyzer" "${program}"
chmod +x "${program}"

launcher="${directory}/perf_analyzer"
if "${program}" --version >/dev/null 2>&1; then
    printf '#!/bin/sh\nexec "%s" "$@"\n' "${program}" >"${work}/launcher"
else
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null \
        || fail "perf_analyzer does not start with this machine's libraries, and without apt-get newer ones cannot be fetched"
    source="$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT) $(REPO_URI)' | sed -n 's/^[^ ]*debian[^ ]* [a-z]* main \(.*\)/\1/p' | grep -v security | head -n 1)"
    [ -n "${source}" ] || fail "no package source of Debian is set up on this machine: perf_analyzer needs the libraries of Debian ${suite}"
    mkdir -p "${work}"/{lists,cache/archives}/partial "${work}/debs"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${source} ${suite} main" >"${work}/sources.list"
    apt=(apt-get -qq
        -o "Dir::Etc::sourcelist=${work}/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=${work}/lists" -o Dir::State::status=/dev/null
        -o "Dir::Cache=${work}/cache" -o APT::Architecture=amd64 -o APT::Sandbox::User=)
    "${apt[@]}" update || fail "the package lists of Debian ${suite} could not be fetched: is there a network?"
    (cd "${work}/debs" && "${apt[@]}" download libc6 libstdc++6 libgcc-s1) \
        || fail "the libraries of Debian ${suite} could not be fetched"
    for package in "${work}"/debs/*.deb; do
        dpkg-deb --extract "${package}" "${work}/root"
    done
    rm -rf "${directory}/lib"
    cp -a "${work}/root/usr/lib/x86_64-linux-gnu" "${directory}/lib"
    printf '#!/bin/sh\nexec "%s/lib/ld-linux-x86-64.so.2" --library-path "%s/lib" "%s" "$@"\n' \
        "${directory}" "${directory}" "${program}" >"${work}/launcher"
fi
chmod +x "${work}/launcher"
"${work}/launcher" --version >/dev/null || fail "perf_analyzer does not start"
mv "${work}/launcher" "${launcher}"
