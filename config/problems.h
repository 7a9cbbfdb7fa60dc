#ifndef KDN_CONFIG_PROBLEMS_H_
#define KDN_CONFIG_PROBLEMS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace kdn::config {

// Everything that is wrong with a configuration, so that an operator can mend it in one go.
class Problems {
 public:
  // Later problems are counted, not kept.
  static constexpr size_t kMaxKept = 20;

  // `where`: "file:line:column", "env NAME" or "flag --x"; may be empty.
  void Add(std::string_view where, std::string_view what);

  bool empty() const { return count_ == 0; }

  // True if the text of a further problem would not be kept, and need not be worked out.
  bool full() const { return lines_.size() == kMaxKept; }

  // OK if there was none, else InvalidArgument with one line a problem.
  absl::Status ToStatus() const;

 private:
  size_t count_ = 0;
  std::vector<std::string> lines_;
};

}  // namespace kdn::config

#endif  // KDN_CONFIG_PROBLEMS_H_
