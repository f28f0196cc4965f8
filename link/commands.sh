#!/bin/sh
# Writes link/commands.ld anew: the functions that short commands run, those that most of
# them run first, by name without what differs between compilers. What the list does not
# know lies elsewhere, as everything would without it; what no longer exists does no harm.
#
# Needs valgrind. Takes some minutes.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build() {
    touch src/main.rs # It is linked anew then.
    cargo build --release --bin watchfire
}

# A profile knows only the functions that lie where they lie by themselves.
printf 'SECTIONS { .text.commands : { } }\nINSERT BEFORE .text;\n' >link/commands.ld
build

# One profile for each command line.
n=0
run() {
    n=$((n + 1))
    valgrind --quiet --tool=callgrind --demangle=no --callgrind-out-file="$work/$n.out" \
        target/release/watchfire "$@" >/dev/null 2>&1 || echo "watchfire $*: exit code $?" >&2
}
run check rules rules/*.yml
run test rules rules/tests/*.yml
run rules lint rules/*.yml
run rules fmt --check rules/*.yml
run promql format 'sum by (job) (rate(requests_total[5m]))'

# What stands for few functions comes first, then what most commands run: a name that stands
# for hundreds, one for each type, would keep the others apart.
nm --defined-only target/release/watchfire | awk '
    $3 !~ /^_ZN.*17h[0-9a-f]*E/ { next }
    { sub(/17h[0-9a-f]*E.*$/, "", $3); copies[$3]++ }
    END { for (name in copies) print name, copies[name] <= 3 ? 0 : copies[name] <= 12 ? 1 : 2 }
' >"$work/kinds"
for profile in "$work"/*.out; do
    # A function has its name where it is told of first, be it as called by another one.
    awk '
        match($0, /^c?fn=\([0-9]+\)/) {
            id = substr($0, 1, RLENGTH); called = sub(/^c/, "", id)
            if (NF > 1) name[id] = $2
            if (!called) run[id]
        }
        END { for (id in run) if (sub(/17h[0-9a-f]*E.*$/, "", name[id])) print name[id] }
    ' "$profile" | sort -u
done | sort | uniq -c | awk '
    NR == FNR { kind[$1] = $2; next }
    $2 in kind { print kind[$2], $1, $2 }
' "$work/kinds" - | sort -k1,1n -k2,2nr -k3 >"$work/run"
{
    echo '/* Made by link/commands.sh: see there and build.rs. */'
    echo 'SECTIONS { .text.commands : {'
    awk '{ print "*(.text*." $3 "17h*)" }' "$work/run"
    echo '} }'
    echo 'INSERT BEFORE .text;'
} >"$work/commands.ld"
mv "$work/commands.ld" link/commands.ld

# Resident memory of the tests, at most.
memory() {
    python3 -c 'if True:
        import resource, subprocess, sys
        subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, "MiB")
    ' target/release/watchfire test rules rules/tests/*.yml
}
echo "before: $(memory)"
build
echo "after:  $(memory)"
