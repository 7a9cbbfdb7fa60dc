// Debian's Abseil is not instrumented for ThreadSanitizer, so that locking an absl::Mutex orders nothing in its eyes
// and every guarded access looks like a race. KdnCompiler.cmake links this file into thread-sanitizer builds and has
// the linker send our calls of Mutex and CondVar through it, where they are announced.
#include <sanitizer/tsan_interface.h>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace {

constexpr unsigned kWrite = __tsan_mutex_linker_init;
constexpr unsigned kRead = __tsan_mutex_linker_init | __tsan_mutex_read_lock;

void Unlocked(absl::Mutex* mu) {
  __tsan_mutex_pre_unlock(mu, kWrite);
  __tsan_mutex_post_unlock(mu, kWrite);
}

// A wait gives the mutex up and takes it again; conditions that Abseil evaluates meanwhile run unwatched.
template <typename Wait>
auto Waited(absl::Mutex* mu, Wait&& wait) {
  Unlocked(mu);
  __tsan_mutex_pre_lock(mu, kWrite);
  const auto result = wait();
  __tsan_mutex_post_lock(mu, kWrite, 0);
  return result;
}

}  // namespace

#define KDN_MUTEX(name) _ZN4absl7debian35Mutex##name
#define KDN_CONDVAR(name) _ZN4absl7debian37CondVar##name
#define KDN_JOIN_INNER(a, b) a##b
#define KDN_JOIN(a, b) KDN_JOIN_INNER(a, b)
#define REAL(symbol) KDN_JOIN(__real_, symbol)
#define WRAP(symbol) KDN_JOIN(__wrap_, symbol)

extern "C" {

void REAL(KDN_MUTEX(4LockEv))(absl::Mutex*);
void WRAP(KDN_MUTEX(4LockEv))(absl::Mutex* mu) {
  __tsan_mutex_pre_lock(mu, kWrite);
  REAL(KDN_MUTEX(4LockEv))(mu);
  __tsan_mutex_post_lock(mu, kWrite, 0);
}

void REAL(KDN_MUTEX(6UnlockEv))(absl::Mutex*);
void WRAP(KDN_MUTEX(6UnlockEv))(absl::Mutex* mu) {
  __tsan_mutex_pre_unlock(mu, kWrite);
  REAL(KDN_MUTEX(6UnlockEv))(mu);
  __tsan_mutex_post_unlock(mu, kWrite);
}

bool REAL(KDN_MUTEX(7TryLockEv))(absl::Mutex*);
bool WRAP(KDN_MUTEX(7TryLockEv))(absl::Mutex* mu) {
  __tsan_mutex_pre_lock(mu, kWrite | __tsan_mutex_try_lock);
  const bool locked = REAL(KDN_MUTEX(7TryLockEv))(mu);
  __tsan_mutex_post_lock(mu, kWrite | __tsan_mutex_try_lock | (locked ? 0 : __tsan_mutex_try_lock_failed), 0);
  return locked;
}

void REAL(KDN_MUTEX(10ReaderLockEv))(absl::Mutex*);
void WRAP(KDN_MUTEX(10ReaderLockEv))(absl::Mutex* mu) {
  __tsan_mutex_pre_lock(mu, kRead);
  REAL(KDN_MUTEX(10ReaderLockEv))(mu);
  __tsan_mutex_post_lock(mu, kRead, 0);
}

void REAL(KDN_MUTEX(12ReaderUnlockEv))(absl::Mutex*);
void WRAP(KDN_MUTEX(12ReaderUnlockEv))(absl::Mutex* mu) {
  __tsan_mutex_pre_unlock(mu, kRead);
  REAL(KDN_MUTEX(12ReaderUnlockEv))(mu);
  __tsan_mutex_post_unlock(mu, kRead);
}

void REAL(KDN_MUTEX(8LockWhenERKNS0_9ConditionE))(absl::Mutex*, const absl::Condition&);
void WRAP(KDN_MUTEX(8LockWhenERKNS0_9ConditionE))(absl::Mutex* mu, const absl::Condition& condition) {
  __tsan_mutex_pre_lock(mu, kWrite);
  REAL(KDN_MUTEX(8LockWhenERKNS0_9ConditionE))(mu, condition);
  __tsan_mutex_post_lock(mu, kWrite, 0);
}

void REAL(KDN_MUTEX(5AwaitERKNS0_9ConditionE))(absl::Mutex*, const absl::Condition&);
void WRAP(KDN_MUTEX(5AwaitERKNS0_9ConditionE))(absl::Mutex* mu, const absl::Condition& condition) {
  Waited(mu, [&] {
    REAL(KDN_MUTEX(5AwaitERKNS0_9ConditionE))(mu, condition);
    return true;
  });
}

bool REAL(KDN_MUTEX(16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE))(absl::Mutex*, const absl::Condition&,
                                                                         absl::Duration);
bool WRAP(KDN_MUTEX(16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE))(absl::Mutex* mu,
                                                                         const absl::Condition& condition,
                                                                         absl::Duration timeout) {
  return Waited(
      mu, [&] { return REAL(KDN_MUTEX(16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE))(mu, condition, timeout); });
}

void REAL(KDN_CONDVAR(4WaitEPNS0_5MutexE))(absl::CondVar*, absl::Mutex*);
void WRAP(KDN_CONDVAR(4WaitEPNS0_5MutexE))(absl::CondVar* condition, absl::Mutex* mu) {
  Waited(mu, [&] {
    REAL(KDN_CONDVAR(4WaitEPNS0_5MutexE))(condition, mu);
    return true;
  });
}

bool REAL(KDN_CONDVAR(15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE))(absl::CondVar*, absl::Mutex*, absl::Duration);
bool WRAP(KDN_CONDVAR(15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE))(absl::CondVar* condition, absl::Mutex* mu,
                                                                     absl::Duration timeout) {
  return Waited(
      mu, [&] { return REAL(KDN_CONDVAR(15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE))(condition, mu, timeout); });
}

bool REAL(KDN_CONDVAR(16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE))(absl::CondVar*, absl::Mutex*, absl::Time);
bool WRAP(KDN_CONDVAR(16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE))(absl::CondVar* condition, absl::Mutex* mu,
                                                                  absl::Time deadline) {
  return Waited(mu,
                [&] { return REAL(KDN_CONDVAR(16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE))(condition, mu, deadline); });
}

}  // extern "C"
