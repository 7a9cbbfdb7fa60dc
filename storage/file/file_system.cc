#include "storage/file/file_system.h"

#include <deque>
#include <utility>

#include "kernels/base/status.h"

namespace kdn {
namespace {

// Reads at once and hands out the results in order.
class ImmediateQueue : public ReadQueue {
 public:
  explicit ImmediateQueue(File& file) : file_(file) {}

  void Submit(uint64_t offset, MutableByteSpan to) override { results_.push_back(file_.ReadAt(offset, to)); }

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

absl::Status File::WriteAt(uint64_t offset, std::span<const ByteSpan> pieces) {
  for (const ByteSpan& piece : pieces) {
    KDN_RETURN_IF_ERROR(WriteAt(offset, piece));
    offset += piece.size();
  }
  return absl::OkStatus();
}

std::unique_ptr<ReadQueue> File::NewReadQueue() { return std::make_unique<ImmediateQueue>(*this); }

}  // namespace kdn
