#!/bin/sh
# Writes coverage.md: what the committed corpus covers, by lines. Needs a nightly toolchain with llvm-tools.
set -eu
cd "$(dirname "$0")/.."
bin=$(rustc +nightly --print sysroot)/lib/rustlib/$(rustc +nightly -vV | sed -n 's/^host: //p')/bin
target=target/coverage
export CARGO_TARGET_DIR=$target RUSTFLAGS='-C instrument-coverage' LLVM_PROFILE_FILE="$PWD/$target/%p.profraw"
test=$(cargo +nightly test --lib --features kubernetes,linkerd --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p')
rm -f $target/*.profraw
"./$test" fuzz:: >/dev/null
"$bin/llvm-profdata" merge -sparse $target/*.profraw -o $target/all.profdata
{
    echo '# What the corpus covers'
    echo
    echo 'Written by `fuzz/coverage.sh`, which runs the three targets over the committed corpus. What reads files and watches'
    echo 'folders is not in it: the targets are given text.'
    echo
    echo '| file | lines | missed | covered |'
    echo '|---|---|---|---|'
    "$bin/llvm-cov" report "$test" --instr-profile $target/all.profdata \
        --ignore-filename-regex='/tests?[/.]|registry|rustc|/rustlib/' 2>/dev/null |
        awk '$1 ~ /^(source\/|client\/overrides)/ && $1 !~ /reload|files\.rs/ {
                 print "| `" $1 "` | " $8 " | " $9 " | " $10 " |"; lines += $8; missed += $9 }
             END { printf "| all | %d | %d | %.1f%% |\n", lines, missed, (lines - missed) * 100 / lines }'
} > fuzz/coverage.md
