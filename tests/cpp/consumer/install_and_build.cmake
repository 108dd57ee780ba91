# Install the library, elsewhere than was configured, then build and run the consumer against what
# was installed, once with CMake's package and once with pkg-config's.
#
# cmake -DBUILD=library's -DWORK=folder -DC_COMPILER=cc -DC_FLAGS=... -DONNXRUNTIME=file
#       [-DPKG_CONFIG=...] -P install_and_build.cmake

file(REMOVE_RECURSE ${WORK})
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/installed)
# ONNX Runtime is found beside the library, as an application would ship both.
file(GLOB_RECURSE library ${WORK}/installed/libhyperstyle_rt.so)
get_filename_component(libraries ${library} DIRECTORY)
file(CREATE_LINK ${ONNXRUNTIME} ${libraries}/libonnxruntime.so.1 SYMBOLIC)

# The loader is told where they are, as a path with a comma cannot be linked in (-Wl,-rpath).
set(ENV{LD_LIBRARY_PATH} "${libraries}:$ENV{LD_LIBRARY_PATH}")

run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${WORK}/build
    -DCMAKE_PREFIX_PATH=${WORK}/installed -DCMAKE_C_COMPILER=${C_COMPILER}
    -DCMAKE_C_FLAGS=${C_FLAGS} -DCMAKE_SKIP_RPATH=ON)
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/consumer)

if(PKG_CONFIG)
  file(GLOB_RECURSE description ${WORK}/installed/hyperstyle_rt.pc)
  get_filename_component(folder ${description} DIRECTORY)
  set(ENV{PKG_CONFIG_PATH} ${folder})
  execute_process(
    COMMAND ${PKG_CONFIG} --cflags --libs hyperstyle_rt
    OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags UNIX_COMMAND "${flags} ${C_FLAGS}")
  run(${C_COMPILER} ${CMAKE_CURRENT_LIST_DIR}/main.c -o ${WORK}/by_pkg_config ${flags})
  run(${WORK}/by_pkg_config)
endif()
