# ONNX Runtime, nlohmann-json and OpenSSL or libmd: installed, or below ONNXRUNTIME_ROOT or
# CMAKE_PREFIX_PATH. Makes the targets hsrt_onnxruntime, hsrt_sha256, nlohmann_json::nlohmann_json.

find_package(nlohmann_json 3.10 CONFIG REQUIRED)

add_library(hsrt_onnxruntime INTERFACE)
set(ONNXRUNTIME_ROOT "" CACHE PATH "Where include/ and lib/ of an ONNX Runtime release are")
# Found by hand: the CMake files of some releases and packages name paths that are not there.
find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_c_api.h HINTS ${ONNXRUNTIME_ROOT}
          PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session onnxruntime)
find_library(ONNXRUNTIME_LIBRARY NAMES onnxruntime HINTS ${ONNXRUNTIME_ROOT} PATH_SUFFIXES lib)
if(NOT ONNXRUNTIME_INCLUDE_DIR OR NOT ONNXRUNTIME_LIBRARY)
  message(FATAL_ERROR "ONNX Runtime's C API was not found; install its development package, or "
                      "unpack a release and set ONNXRUNTIME_ROOT to it")
endif()
target_include_directories(hsrt_onnxruntime SYSTEM INTERFACE ${ONNXRUNTIME_INCLUDE_DIR})
target_link_libraries(hsrt_onnxruntime INTERFACE ${ONNXRUNTIME_LIBRARY})

# OpenSSL hashes several times as fast, for it uses the processor's SHA instructions.
find_package(OpenSSL 1.1.1 QUIET COMPONENTS Crypto)
option(HSRT_WITH_OPENSSL "Hash with OpenSSL's libcrypto instead of libmd" ${OPENSSL_FOUND})
add_library(hsrt_sha256 INTERFACE)
if(HSRT_WITH_OPENSSL)
  find_package(OpenSSL 1.1.1 REQUIRED COMPONENTS Crypto)
  target_link_libraries(hsrt_sha256 INTERFACE OpenSSL::Crypto)
  set(HSRT_SHA256_SOURCE src/sha256_openssl.cpp)
  return()
endif()

# The archive rather than the shared library: 20 KB, and nothing more to ship.
find_path(LIBMD_INCLUDE_DIR sha2.h)
find_library(LIBMD_LIBRARY NAMES libmd.a md)
if(NOT LIBMD_INCLUDE_DIR OR NOT LIBMD_LIBRARY)
  message(FATAL_ERROR "libmd (SHA-256) was not found; install libmd-dev (Debian), libmd-devel "
                      "(Fedora) or libmd (Arch, Alpine, Homebrew), or set HSRT_WITH_OPENSSL")
endif()
target_include_directories(hsrt_sha256 SYSTEM INTERFACE ${LIBMD_INCLUDE_DIR})
target_link_libraries(hsrt_sha256 INTERFACE ${LIBMD_LIBRARY})
set(HSRT_SHA256_SOURCE src/sha256_libmd.cpp)
