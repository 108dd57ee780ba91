#!/usr/bin/env bash
# Fuzz the readers of manifests and safetensors files, each for some seconds (default: 600), starting
# from corpus/. Needs clang with libFuzzer.
#
#     runtime/cpp/fuzz/run.sh [SECONDS]
#
# Findings are left in build/fuzz/; what is worth keeping of the new inputs is printed as a command.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../../.." && pwd)
build=${HSRT_BUILD_DIR:-$repository/build/fuzz}
seconds=${1:-600}

"$here/../fetch_dependencies.sh" "$build/dependencies"
cmake -S "$here/.." -B "$build" -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_C_COMPILER=clang \
    -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_PREFIX_PATH="$build/dependencies/usr" \
    -DHSRT_SANITIZE=fuzzer-no-link,address,undefined -DHSRT_BUILD_FUZZERS=ON \
    -DHSRT_BUILD_EXAMPLES=OFF
cmake --build "$build" --target fuzz_manifest fuzz_safetensors
cd "$build"
for target in manifest safetensors; do
    mkdir -p "found_$target"
    "./fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=65536 -print_final_stats=1 "found_$target" "$here/corpus/$target"
    echo "keep: $build/fuzz/fuzz_$target -merge=1 $here/corpus/$target $build/found_$target"
done
