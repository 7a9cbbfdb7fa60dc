#include "storage/file/file_system.h"

#include <deque>
#include <utility>

namespace kdn {
namespace {

// Runs each operation at once and hands out the results in order.
class ImmediateQueue : public IoQueue {
 public:
  explicit ImmediateQueue(File& file) : file_(file) {}

  void SubmitRead(uint64_t offset, MutableByteSpan to) override { results_.push_back(file_.ReadAt(offset, to)); }

  void SubmitWrite(uint64_t offset, ByteSpan from) override {
    const absl::Status written = file_.WriteAt(offset, from);
    if (written.ok()) {
      results_.push_back(from.size());
    } else {
      results_.push_back(written);
    }
  }

  absl::StatusOr<size_t> WaitOldest() override {
    absl::StatusOr<size_t> result = std::move(results_.front());
    results_.pop_front();
    return result;
  }

  size_t pending() const override { return results_.size(); }
  size_t max_pending() const override { return kMaxPending; }

 private:
  static constexpr size_t kMaxPending = 4;

  File& file_;
  std::deque<absl::StatusOr<size_t>> results_;
};

}  // namespace

std::unique_ptr<IoQueue> File::NewQueue() { return std::make_unique<ImmediateQueue>(*this); }

}  // namespace kdn
