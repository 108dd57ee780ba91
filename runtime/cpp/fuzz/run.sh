#!/usr/bin/env bash
# Fuzz the readers of manifests and safetensors files, each for some seconds (default: 600),
# starting from corpus/. With 0 seconds the corpus is replayed only.
#
#     runtime/cpp/fuzz/run.sh [SECONDS]
#
# Needs clang with libFuzzer; without it, one sentence says so and nothing fails. PYTHON as in
# fetch_dependencies.sh. Findings are left in build/fuzz/; what is worth keeping of the new inputs
# is printed as a command.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../../.." && pwd)
build=${HSRT_BUILD_DIR:-$repository/build/fuzz}
seconds=${1:-600}
limit=(-max_total_time="$seconds")
[[ $seconds == 0 ]] && limit=(-runs=0)

skip() {
    echo "runtime/cpp/fuzz: skipped: $1"
    exit 0
}

mkdir -p "$build"
if ! echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
    clang++ -fsanitize=fuzzer,address,undefined -x c++ - -o "$build/probe" 2>"$build/probe.log"
then
    skip "there is no clang with libFuzzer; install clang and its runtime libraries"
fi
if ! reason=$("$here/../fetch_dependencies.sh" "$build/dependencies" 2>&1); then
    skip "ONNX Runtime's C headers are not at hand: $reason"
fi

cmake -S "$here/.." -B "$build" -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_C_COMPILER=clang \
    -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_PREFIX_PATH="$build/dependencies/usr" \
    -DHSRT_SANITIZE=fuzzer-no-link,address,undefined -DHSRT_BUILD_FUZZERS=ON \
    -DHSRT_BUILD_EXAMPLES=OFF
cmake --build "$build" --parallel "${HSRT_JOBS:-2}" --target fuzz_manifest fuzz_safetensors
cd "$build"
for target in manifest safetensors; do
    mkdir -p "found_$target"
    "./fuzz/fuzz_$target" "${limit[@]}" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
        -print_final_stats=1 "found_$target" "$here/corpus/$target"
    echo "keep: $build/fuzz/fuzz_$target -merge=1 $here/corpus/$target $build/found_$target"
done
