#ifndef KDN_SERVER_RPC_BYTE_BUFFER_H_
#define KDN_SERVER_RPC_BYTE_BUFFER_H_

#include <google/protobuf/message_lite.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <vector>

#include "kernels/base/bytes.h"

namespace kdn {

// The slices of a received message, held for as long as this lives, and their bytes as spans. Reused from message to
// message.
class MessagePieces {
 public:
  // False when gRPC cannot give the slices out (a compressed message that does not unpack).
  bool Read(const grpc::ByteBuffer& message) {
    slices_.clear();
    spans_.clear();
    if (!message.Dump(&slices_).ok()) return false;
    spans_.reserve(slices_.size());
    for (const grpc::Slice& slice : slices_) spans_.emplace_back(slice.begin(), slice.size());
    return true;
  }
  std::span<const ByteSpan> spans() const { return spans_; }
  void Clear() {
    slices_.clear();
    spans_.clear();
  }

 private:
  std::vector<grpc::Slice> slices_;
  std::vector<ByteSpan> spans_;
};

// Parses a small message that came as bytes.
inline bool ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::MessageLite& message) {
  grpc::Slice slice;
  return bytes.DumpToSingleSlice(&slice).ok() && message.ParseFromArray(slice.begin(), static_cast<int>(slice.size()));
}

inline grpc::ByteBuffer SerializeMessage(const google::protobuf::MessageLite& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace kdn

#endif  // KDN_SERVER_RPC_BYTE_BUFFER_H_
