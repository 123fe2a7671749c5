#!/usr/bin/env bash
# Runs fuzz targets one after the other, each for so many seconds:
#
#   fuzz/run.sh SECONDS [TARGET…]
#
# Without names it runs all. New inputs go to target/fuzz/corpus, findings to fuzz/artifacts; the first finding ends it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "fuzz: $1" >&2
    exit 1
}

seconds="${1:?how many seconds for each target}"
shift
cargo +nightly --version >/dev/null 2>&1 || fail "libFuzzer wants the nightly compiler: run \`rustup toolchain install nightly\`"
cargo fuzz --version >/dev/null 2>&1 || fail "\`cargo fuzz\` was not found: run \`cargo install --locked cargo-fuzz\`"
if [ $# = 0 ]; then
    mapfile -t all < <(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"|\1|p' fuzz/Cargo.toml)
    set -- "${all[@]}"
fi
# There is no unsafe code of ours for a sanitizer to watch, and without one it is twice as quick.
options=(--sanitizer none --codegen-units 16 --target-dir target/fuzz)

for target in "$@"; do
    [ -f "fuzz/fuzz_targets/${target}.rs" ] || fail "there is no target \`${target}\`"
    mkdir -p "target/fuzz/corpus/${target}"
    cargo +nightly fuzz run "${options[@]}" "${target}" "target/fuzz/corpus/${target}" "fuzz/corpus/${target}" \
        -- -max_total_time="${seconds}" -max_len=16384 -timeout=10 -print_final_stats=1
done
