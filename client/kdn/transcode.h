#ifndef KDN_CLIENT_KDN_TRANSCODE_H_
#define KDN_CLIENT_KDN_TRANSCODE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "client/kdn/client.h"

namespace kdn {

// The same chunk, its cells decoded and coded anew at `profile`. The bytes are hostile. InvalidArgument when it is no
// container of the model, holds different rows in heads of one layer, or the profile is not for its dtype; DataLoss
// when it is damaged; errors of decoding and encoding.
absl::StatusOr<std::vector<uint8_t>> TranscodeContainer(const ModelHandle& model, ByteSpan container,
                                                        ProfileId profile);

}  // namespace kdn

#endif  // KDN_CLIENT_KDN_TRANSCODE_H_
