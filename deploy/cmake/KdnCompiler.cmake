# Language level, warnings, sanitizers and ccache for every KDN target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(KDN_CCACHE ccache)
if(KDN_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${KDN_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${KDN_CCACHE})
endif()

add_library(kdn_compiler_flags INTERFACE)
# No contraction: the CPU and CUDA paths must round alike (see kernels/codec/README.md).
target_compile_options(kdn_compiler_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -ffp-contract=off>)
if(KDN_WERROR)
  target_compile_options(kdn_compiler_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(KDN_SANITIZE)
  target_compile_options(kdn_compiler_flags INTERFACE
    -fsanitize=${KDN_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
  target_link_options(kdn_compiler_flags INTERFACE -fsanitize=${KDN_SANITIZE})
endif()
if(KDN_BUILD_FUZZ)
  # Coverage of the libraries: with that of its own few lines alone, a fuzzer searches blindly.
  target_compile_options(kdn_compiler_flags INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(kdn_compiler_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(KDN_SANITIZE MATCHES "thread")
  # See tsan_mutex.cc.
  add_library(kdn_tsan_mutex STATIC ${CMAKE_CURRENT_LIST_DIR}/tsan_mutex.cc)
  target_link_libraries(kdn_tsan_mutex PUBLIC absl::synchronization)
  target_link_libraries(kdn_compiler_flags INTERFACE $<BUILD_INTERFACE:kdn_tsan_mutex>)
  # Shared libraries of Abseil refer to the wrappers too, also in programs whose own objects do not: without this the
  # linker passes the archive by.
  target_link_options(kdn_compiler_flags INTERFACE "LINKER:--undefined=__wrap__ZN4absl7debian35Mutex4LockEv")
  foreach(method
      Mutex4LockEv Mutex6UnlockEv Mutex7TryLockEv Mutex10ReaderLockEv Mutex12ReaderUnlockEv
      Mutex8LockWhenERKNS0_9ConditionE Mutex5AwaitERKNS0_9ConditionE
      Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE)
    target_link_options(kdn_compiler_flags INTERFACE "LINKER:--wrap=_ZN4absl7debian35${method}")
  endforeach()
  foreach(method
      CondVar4WaitEPNS0_5MutexE CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE
      CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE)
    target_link_options(kdn_compiler_flags INTERFACE "LINKER:--wrap=_ZN4absl7debian37${method}")
  endforeach()
endif()
install(TARGETS kdn_compiler_flags EXPORT KDNTargets)
