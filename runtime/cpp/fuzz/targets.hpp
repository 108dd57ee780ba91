// What the fuzzers and their replay call: readers of untrusted bytes must return or throw Failure;
// whatever else they do ends the process.
#pragma once

#include <string_view>

void fuzz_manifest(std::string_view data);
void fuzz_safetensors(std::string_view data);
