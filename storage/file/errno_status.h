#ifndef KDN_STORAGE_FILE_ERRNO_STATUS_H_
#define KDN_STORAGE_FILE_ERRNO_STATUS_H_

#include <string_view>

#include "absl/status/status.h"

namespace kdn {

// What the errno of a failed `operation` on `path` means to KDN; see the table at the top of file_system.h.
absl::Status ErrnoStatus(int error, std::string_view operation, std::string_view path);

// The same for a read, where EIO means that stored bytes are lost.
absl::Status ReadErrnoStatus(int error, std::string_view operation, std::string_view path);

}  // namespace kdn

#endif  // KDN_STORAGE_FILE_ERRNO_STATUS_H_
