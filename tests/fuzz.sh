#!/usr/bin/env bash
# Fuzzes: tests/fuzz.sh [SECONDS [TARGET...]], 300 seconds for each target by default.
#
# Needs cargo-fuzz (`cargo install cargo-fuzz`); the stable compiler will do. Begins with
# fuzz/seeds/TARGET, our scripts and what lies in ../shared, goes on with what earlier runs
# found out (fuzz/corpus), and stops at the first finding, which it leaves in fuzz/artifacts.
# A finding that is mended goes to fuzz/seeds/TARGET, where tests/it/fuzz.rs runs it for ever.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1

seconds=${1:-300}
shift || true
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
  mapfile -t targets < <(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"|\1|p' fuzz/Cargo.toml)
fi
# The versions that are released are the ones to fuzz.
[ -e fuzz/Cargo.lock ] || cp Cargo.lock fuzz/Cargo.lock

scripts=fuzz/corpus/scripts
expressions=fuzz/corpus/expressions
mkdir -p "$scripts" "$expressions"
cp promql-testdata/*.test "$scripts"
shopt -s nullglob
conformance=(../shared/conformance/promql/*.test)
cat promql-testdata/*.test "${conformance[@]}" |
  sed -n -E 's/^ *eval[a-z_]* +instant +at +[^ ]+ +(.*)/\1/p' | sort -u |
  split --lines=1 --suffix-length=4 --numeric-suffixes - "$expressions/e"

for target in "${targets[@]}"; do
  corpus=fuzz/corpus/$target
  mkdir -p "$corpus"
  more=("fuzz/seeds/$target")
  options=(-timeout=20 -rss_limit_mb=3000 -max_len=8192)
  case $target in
    promql | selectors | evaluate) more+=("$expressions") options+=(-dict=fuzz/promql.dict) ;;
    script)
      more+=("$scripts") options+=(-dict=fuzz/promql.dict)
      [ ${#conformance[@]} = 0 ] || more+=(../shared/conformance/promql)
      ;;
    rules | lint) more+=(rules) && [ ! -e ../shared/corpus/rules ] || more+=(../shared/corpus/rules) ;;
    unit_tests) more+=(rules/tests) ;;
  esac
  [ "$target" != promql ] || options+=(-max_len=100000)
  echo "== $target"
  cargo fuzz run --fuzz-dir fuzz --sanitizer none "$target" "$corpus" "${more[@]}" -- \
    -max_total_time="$seconds" -print_final_stats=1 "${options[@]}"
done
