#include "server/core/upload.h"

#include "kernels/base/status.h"
#include "kernels/chunk/chunker.h"

namespace kdn {
namespace {

absl::Status CheckSizes(ByteSpan container, uint64_t max_container_bytes) {
  if (container.size() > max_container_bytes) {
    return InvalidArgument("container of ", container.size(), " bytes, at most ", max_container_bytes);
  }
  if (container.size() < kContainerPreludeBytes) {
    return InvalidArgument("container of ", container.size(), " bytes is truncated: its prelude alone has ",
                           kContainerPreludeBytes);
  }
  KDN_ASSIGN_OR_RETURN(const ContainerSizes sizes, PeekContainer(container.first(kContainerPreludeBytes)));
  const uint64_t declared = sizes.header_bytes + sizes.body_bytes;
  if (declared != container.size()) {
    return InvalidArgument("container declares ", declared, " bytes, ", container.size(), " were sent");
  }
  return absl::OkStatus();
}

absl::Status CheckIdentity(const StoreRequest& request, const Model& model, const ContainerHeader& header) {
  if (header.fingerprint != request.fingerprint) {
    return InvalidArgument("container is of model ", header.fingerprint.ToShortHex(), ", the request of ",
                           request.fingerprint.ToShortHex());
  }
  if (header.chunk_digest != request.chunk_digest) {
    return InvalidArgument("container is of chunk ", header.chunk_digest.ToShortHex(), ", the request of ",
                           request.chunk_digest.ToShortHex());
  }
  if (header.token_begin > kMaxTokensPerCall) {
    return InvalidArgument("container begins at position ", header.token_begin, ", at most ", kMaxTokensPerCall);
  }
  if (request.kind == ChunkKind::kSegment) {
    if (request.parent_digest.has_value()) return InvalidArgument("a segment chunk has no parent");
    return absl::OkStatus();
  }
  if (request.kind != ChunkKind::kPrefix) {
    return InvalidArgument("chunk kind ", static_cast<int>(request.kind), " is unknown");
  }
  if (header.token_begin % model.chunk_tokens() != 0) {
    return InvalidArgument("prefix chunk begins at position ", header.token_begin, ", not at a multiple of ",
                           model.chunk_tokens());
  }
  // A chunk put back from a file may come without its parent: an access then touches no ancestors.
  if (request.parent_digest.has_value() && header.token_begin == 0) {
    return InvalidArgument("the first prefix chunk names a parent");
  }
  if (request.parent_digest == request.chunk_digest) return InvalidArgument("prefix chunk is its own parent");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ContainerHeader> CheckUpload(const StoreRequest& request, const Model& model, ByteSpan container,
                                            uint64_t max_container_bytes) {
  KDN_RETURN_IF_ERROR(CheckSizes(container, max_container_bytes));
  KDN_ASSIGN_OR_RETURN(ContainerHeader header, ParseContainerHeader(container));
  KDN_RETURN_IF_ERROR(CheckIdentity(request, model, header));
  KDN_RETURN_IF_ERROR(CheckAgainstModel(header, model.spec(), model.cells()));
  const ByteSpan body = container.subspan(header.header_bytes);
  for (const SectionEntry& section : header.sections) {
    KDN_RETURN_IF_ERROR(VerifySection(section, body.subspan(section.offset, section.length)));
  }
  return header;
}

}  // namespace kdn
