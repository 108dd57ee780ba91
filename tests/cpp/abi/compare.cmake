# Compare what the library shows the world with the snapshots beside this file. A difference that is
# meant is committed with them: cmake ... -DUPDATE=ON; one that breaks programs raises
# HSRT_API_VERSION, too.
#
# cmake -DLAYOUT=program -DLIBRARY=file -DNM=program -DMADE=folder [-DUPDATE=ON] -P compare.cmake

function(compare snapshot text)
  if(UPDATE)
    file(WRITE ${CMAKE_CURRENT_LIST_DIR}/${snapshot} "${text}")
    return()
  endif()
  file(READ ${CMAKE_CURRENT_LIST_DIR}/${snapshot} expected)
  if(NOT text STREQUAL expected)
    file(WRITE ${MADE}/${snapshot} "${text}")
    message(FATAL_ERROR "the ABI differs from ${CMAKE_CURRENT_LIST_DIR}/${snapshot}: "
                        "see ${MADE}/${snapshot}")
  endif()
endfunction()

execute_process(COMMAND ${LAYOUT} OUTPUT_VARIABLE layout COMMAND_ERROR_IS_FATAL ANY)
compare(layout.txt "${layout}")

execute_process(COMMAND ${NM} -D --defined-only ${LIBRARY} OUTPUT_VARIABLE lines
                COMMAND_ERROR_IS_FATAL ANY)
string(REGEX REPLACE "[0-9a-f]+ [A-Za-z] ([^\n@]+)(@[^\n]*)?" "\\1" symbols "${lines}")
compare(symbols.txt "${symbols}")
