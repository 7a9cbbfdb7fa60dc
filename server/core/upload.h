#ifndef KDN_SERVER_CORE_UPLOAD_H_
#define KDN_SERVER_CORE_UPLOAD_H_

#include "absl/status/statusor.h"
#include "kernels/format/container.h"
#include "server/core/chunk_store.h"
#include "server/core/registry.h"

namespace kdn {

// The header of an uploaded container after every check that needs no index: declared against actual sizes, header CRC
// and structure, identity against the request, fit to the model, CRC of every section. `container` is hostile.
// InvalidArgument names what contradicts, DataLoss what is damaged, Unimplemented what is of a later version.
absl::StatusOr<ContainerHeader> CheckUpload(const StoreRequest& request, const Model& model, ByteSpan container,
                                            uint64_t max_container_bytes);

}  // namespace kdn

#endif  // KDN_SERVER_CORE_UPLOAD_H_
