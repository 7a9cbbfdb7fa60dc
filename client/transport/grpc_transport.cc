#include "client/transport/grpc_transport.h"

#include <google/protobuf/empty.pb.h>
#include <google/protobuf/wrappers.pb.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/impl/codegen/client_unary_call.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/channel_arguments.h>
#include <grpcpp/support/sync_stream.h>
#include <openssl/crypto.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <sstream>
#include <utility>

#include "client/transport/connect_failure.h"
#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "kernels/format/calibration_object.h"

namespace kdn {
namespace {

using google::protobuf::MessageLite;
using grpc::internal::RpcMethod;

constexpr char kRetrieveMethod[] = "/kdn.v1.Kdn/Retrieve";
constexpr char kStoreMethod[] = "/kdn.v1.Kdn/Store";
constexpr char kPutObjectMethod[] = "/kdn.v1.Kdn/PutObject";
constexpr char kGetObjectMethod[] = "/kdn.v1.Kdn/GetObject";
constexpr char kHealthMethod[] = "/grpc.health.v1.Health/Check";
// A LookupText brings tokens and keys, which came in a request of at most 4 MiB, and of up to 4,194,304 tokens 34 bytes
// a chunk of 16.
constexpr int kMaxReceivedMessageBytes = 16 << 20;
constexpr int kHttp2FrameBytes = 1 << 20;
// What the server may send ahead of a reader: bounds what waits in gRPC's buffers for each Retrieve under way.
constexpr int kStreamLookaheadBytes = 8 << 20;
constexpr int kReconnectBackoffMs = 50;
constexpr int kMaxReconnectBackoffMs = 1000;
// Longest wait for gRPC to say why there is no connection, which it knows already.
constexpr int64_t kReasonTimeoutMs = 100;
constexpr size_t kMaxPemBytes = size_t{1} << 20;

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), ToAbsl(status.error_message()));
}

absl::StatusOr<std::string> ReadPem(const std::string& path, std::string_view option) {
  if (path.empty()) return std::string();
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  if (file) text << file.rdbuf();
  if (!file || text.str().empty()) return InvalidArgument("tls: ", option, " \"", path, "\" cannot be read");
  if (text.str().size() > kMaxPemBytes) return InvalidArgument("tls: ", option, " \"", path, "\" is no PEM file");
  return text.str();
}

// gRPC's threads may be in the middle of a TLS handshake that nobody waits for any more when the process ends. OpenSSL
// would then free what they use, and they crash: so it leaves its memory to the process's end. An application that has
// used OpenSSL before decides for itself.
void KeepOpenSslToTheEnd() {
  static const bool done = OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, nullptr) == 1;
  static_cast<void>(done);
}

// The process in which this library first used gRPC; 0 before.
std::atomic<pid_t> grpc_process{0};

// gRPC's threads, locks and descriptors do not survive a fork: in the child it hangs, or disturbs the parent's.
absl::Status ClaimGrpc() {
  const pid_t self = getpid();
  pid_t owner = 0;
  if (grpc_process.compare_exchange_strong(owner, self) || owner == self) return absl::OkStatus();
  return Unavailable(
      "gRPC was in use before this process was forked: fork before the first call, or start the process ",
      "anew (in Python: multiprocessing with \"spawn\")");
}

std::chrono::system_clock::time_point AfterMillis(int64_t timeout_ms) {
  return std::chrono::system_clock::now() + std::chrono::milliseconds(timeout_ms);
}

}  // namespace

// One call under way: its gRPC context, cancellable by the caller and by the watch.
class GrpcTransport::ActiveCall {
 public:
  ActiveCall(GrpcTransport& transport, const CallLimits& limits)
      : limits_(limits),
        watched_(transport.watch_, [this] { context_.TryCancel(); }),
        on_cancel_(limits.cancel, [this] { context_.TryCancel(); }) {
    transport.PrepareContext(context_, limits);
  }

  grpc::ClientContext& context() { return context_; }
  void Heard() { watched_.Heard(); }

  // What the end of the call means to its caller.
  absl::Status Translate(const grpc::Status& status) const {
    if (status.ok()) return absl::OkStatus();
    if (limits_.cancel != nullptr && limits_.cancel->cancelled()) return Cancelled("cancelled by the caller");
    if (watched_.given_up()) return Unavailable("given up: the server does not answer");
    return FromGrpc(status);
  }

 private:
  const CallLimits& limits_;
  grpc::ClientContext context_;
  ServerWatch::Call watched_;
  ScopedCancelCallback on_cancel_;
};

absl::StatusOr<std::unique_ptr<GrpcTransport>> GrpcTransport::Create(const GrpcTransportOptions& options,
                                                                     const Clock& clock) {
  KDN_RETURN_IF_ERROR(ValidateGrpcTransportOptions(options));
  TlsFiles files;
  if (options.tls.has_value()) {
    KDN_ASSIGN_OR_RETURN(files.ca, ReadPem(options.tls->ca_file, "ca_file"));
    KDN_ASSIGN_OR_RETURN(files.cert, ReadPem(options.tls->cert_file, "cert_file"));
    KDN_ASSIGN_OR_RETURN(files.key, ReadPem(options.tls->key_file, "key_file"));
  }
  return std::unique_ptr<GrpcTransport>(new GrpcTransport(options, std::move(files), clock));
}

GrpcTransport::GrpcTransport(const GrpcTransportOptions& options, TlsFiles tls_files, const Clock& clock)
    : options_(options),
      tls_files_(std::move(tls_files)),
      clock_(clock),
      watch_(options.dead_after_ms, clock, [this](int64_t timeout_ms) { return Probe(timeout_ms); }) {}

std::shared_ptr<grpc::Channel> GrpcTransport::MakeChannel() const {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(kMaxReceivedMessageBytes);
  args.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kHttp2FrameBytes);
  args.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 1);
  args.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kStreamLookaheadBytes);
  args.SetInt(GRPC_ARG_TCP_TX_ZEROCOPY_ENABLED, 0);
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectBackoffMs);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kMaxReconnectBackoffMs);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectBackoffMs);
  // Transparent retries keep copies of what was sent.
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  args.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  if (!options_.tls.has_value()) {
    return grpc::CreateCustomChannel(options_.endpoint, grpc::InsecureChannelCredentials(), args);
  }
  KeepOpenSslToTheEnd();
  if (!options_.tls->server_name.empty()) args.SetSslTargetNameOverride(options_.tls->server_name);
  grpc::SslCredentialsOptions ssl;
  ssl.pem_root_certs = tls_files_.ca;
  ssl.pem_cert_chain = tls_files_.cert;
  ssl.pem_private_key = tls_files_.key;
  return grpc::CreateCustomChannel(options_.endpoint, grpc::SslCredentials(ssl), args);
}

std::shared_ptr<grpc::Channel> GrpcTransport::NextChannel() {
  absl::MutexLock lock(&mutex_);
  if (channels_.empty()) {
    for (uint32_t i = 0; i < options_.channels; ++i) channels_.push_back(MakeChannel());
  }
  return channels_[next_channel_++ % channels_.size()];
}

void GrpcTransport::DropConnections() {
  std::vector<std::shared_ptr<grpc::Channel>> dropped;
  absl::MutexLock lock(&mutex_);
  dropped.swap(channels_);
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> GrpcTransport::Connect(const CallLimits& limits) {
  KDN_RETURN_IF_ERROR(ClaimGrpc());
  KDN_RETURN_IF_ERROR(watch_.Admit());
  if (limits.cancel != nullptr && limits.cancel->cancelled()) return Cancelled("cancelled by the caller");
  std::shared_ptr<grpc::Channel> channel = NextChannel();
  const grpc_connectivity_state state = channel->GetState(/*try_to_connect=*/true);
  if (state == GRPC_CHANNEL_READY) return channel;
  if (state == GRPC_CHANNEL_TRANSIENT_FAILURE && options_.on_refusal == OnRefusal::kFail) {
    DropConnections();  // so that a failure which is seen is one of now
    channel = NextChannel();
  }
  const int64_t left_ms = (limits.deadline_nanos - clock_.MonotonicNanos()) / 1'000'000;
  if (left_ms <= 0) return DeadlineExceeded("deadline passed before the call began");
  // An earlier failure may have left the channel waiting for its next attempt.
  grpc::experimental::ChannelResetConnectionBackoff(channel.get());
  const int64_t patience_ms = std::min(left_ms, options_.dead_after_ms);
  const Attempt attempt = AwaitConnection(*channel, patience_ms);
  if (attempt == Attempt::kConnected) return channel;
  const std::string cannot = StrCat(kCannotConnect, options_.endpoint, ": ");
  if (attempt == Attempt::kSilence && left_ms < options_.dead_after_ms) {
    return DeadlineExceeded(cannot, "no answer within the deadline of ", left_ms, " ms");
  }
  const absl::Status why = CheckHealth(attempt == Attempt::kRefused ? kReasonTimeoutMs : 1);
  const LinkSecurity security = options_.tls.has_value() ? LinkSecurity::kTls : LinkSecurity::kPlaintext;
  const std::string reason =
      cannot + (absl::IsUnavailable(why) ? DescribeConnectFailure(FromAbsl(why.message()), security)
                                         : StrCat("no answer within ", patience_ms, " ms"));
  watch_.ReportDead(reason);
  return Unavailable(reason);
}

GrpcTransport::Attempt GrpcTransport::AwaitConnection(grpc::Channel& channel, int64_t timeout_ms) const {
  const auto deadline = AfterMillis(timeout_ms);
  if (options_.on_refusal == OnRefusal::kTryAgain) {
    return channel.WaitForConnected(deadline) ? Attempt::kConnected : Attempt::kSilence;
  }
  for (grpc_connectivity_state state = channel.GetState(/*try_to_connect=*/true); state != GRPC_CHANNEL_READY;
       state = channel.GetState(/*try_to_connect=*/true)) {
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) return Attempt::kRefused;
    if (!channel.WaitForStateChange(state, deadline)) return Attempt::kSilence;
  }
  return Attempt::kConnected;
}

absl::Status GrpcTransport::CheckHealth(int64_t timeout_ms) {
  const std::shared_ptr<grpc::Channel> channel = NextChannel();
  grpc::ClientContext context;
  context.set_deadline(AfterMillis(timeout_ms));
  if (!options_.token.empty()) context.AddMetadata("authorization", "Bearer " + options_.token);
  const google::protobuf::Empty request;
  google::protobuf::UInt64Value response;
  return FromGrpc(grpc::internal::BlockingUnaryCall<MessageLite, MessageLite, MessageLite, MessageLite>(
      channel.get(), RpcMethod(kHealthMethod, nullptr, RpcMethod::NORMAL_RPC), &context, request, &response));
}

bool GrpcTransport::Probe(int64_t timeout_ms) {
  const std::shared_ptr<grpc::Channel> channel = NextChannel();
  if (channel->GetState(/*try_to_connect=*/true) != GRPC_CHANNEL_READY) {
    grpc::experimental::ChannelResetConnectionBackoff(channel.get());
    if (!channel->WaitForConnected(AfterMillis(timeout_ms))) return false;
  }
  const absl::Status health = CheckHealth(timeout_ms);
  return !absl::IsUnavailable(health) && !absl::IsDeadlineExceeded(health) && !absl::IsCancelled(health);
}

void GrpcTransport::PrepareContext(grpc::ClientContext& context, const CallLimits& limits) const {
  const int64_t left_nanos = limits.deadline_nanos - clock_.MonotonicNanos();
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::nanoseconds(left_nanos));
  if (!options_.token.empty()) context.AddMetadata("authorization", "Bearer " + options_.token);
}

absl::Status GrpcTransport::Call(std::string_view method, const MessageLite& request, const CallLimits& limits,
                                 MessageLite& response) {
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, Connect(limits));
  const std::string name(method);
  ActiveCall call(*this, limits);
  return call.Translate(grpc::internal::BlockingUnaryCall<MessageLite, MessageLite, MessageLite, MessageLite>(
      channel.get(), RpcMethod(name.c_str(), nullptr, RpcMethod::NORMAL_RPC), &call.context(), request, &response));
}

absl::Status GrpcTransport::Retrieve(const v1::RetrieveRequest& request, const CallLimits& limits, RetrieveSink& sink) {
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, Connect(limits));
  ActiveCall call(*this, limits);
  const std::unique_ptr<grpc::ClientReader<grpc::ByteBuffer>> reader(
      grpc::internal::ClientReaderFactory<grpc::ByteBuffer>::Create(
          channel.get(), RpcMethod(kRetrieveMethod, nullptr, RpcMethod::SERVER_STREAMING), &call.context(), request));
  RetrieveAssembler assembler(static_cast<uint32_t>(request.chunks_size()), sink);
  RetrieveFrameView frame;
  grpc::ByteBuffer message;
  std::vector<grpc::Slice> slices;
  std::vector<ByteSpan> pieces;
  absl::Status protocol;
  while (protocol.ok() && reader->Read(&message)) {
    call.Heard();
    slices.clear();
    pieces.clear();
    if (!message.Dump(&slices).ok()) {
      protocol = Internal("retrieve frame: cannot be read");
      break;
    }
    for (const grpc::Slice& slice : slices) pieces.emplace_back(slice.begin(), slice.size());
    protocol = ParseRetrieveFrame(pieces, frame);
    if (protocol.ok()) protocol = assembler.Add(frame);
    call.Heard();
  }
  if (!protocol.ok()) call.context().TryCancel();
  const grpc::Status status = reader->Finish();
  if (!protocol.ok()) return protocol;
  KDN_RETURN_IF_ERROR(call.Translate(status));
  if (assembler.complete()) return absl::OkStatus();
  return DataLoss("retrieve stream: ended before chunk ", assembler.chunks_ended(), " of ", request.chunks_size());
}

namespace {

using StoreWriter = grpc::ClientWriter<grpc::ByteBuffer>;

void ReleaseOwner(void* owner) { delete static_cast<std::shared_ptr<const void>*>(owner); }

// A slice that refers to `bytes` and keeps `owner` until gRPC is done with it.
grpc::Slice BorrowingSlice(ByteSpan bytes, const std::shared_ptr<const void>& owner) {
  return grpc::Slice(const_cast<uint8_t*>(bytes.data()), bytes.size(), &ReleaseOwner,
                     new std::shared_ptr<const void>(owner));
}

}  // namespace

absl::Status GrpcTransport::SendContainer(void* writer, const OutgoingContainer& container, uint32_t index,
                                          ActiveCall& call) {
  StoreFrameHeader header;
  header.begin = &container.begin;
  header.chunk_index = index;
  for (uint64_t offset = 0; offset < container.bytes.size(); offset += kMaxFrameDataBytes) {
    const ByteSpan data =
        container.bytes.subspan(offset, std::min<uint64_t>(kMaxFrameDataBytes, container.bytes.size() - offset));
    header.offset = offset;
    header.crc32c = Crc32c(data);
    header.data_bytes = static_cast<uint32_t>(data.size());
    const std::vector<uint8_t> prefix = EncodeStoreFrameHeader(header);
    const grpc::Slice slices[] = {grpc::Slice(prefix.data(), prefix.size()), BorrowingSlice(data, container.owner)};
    const grpc::ByteBuffer message(slices, 2);
    if (!static_cast<StoreWriter*>(writer)->Write(message)) return Unavailable("store stream: broken");
    call.Heard();
    header.begin = nullptr;
  }
  return absl::OkStatus();
}

absl::Status GrpcTransport::Store(StoreSource& source, const CallLimits& limits, v1::StoreResponse& response) {
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, Connect(limits));
  ActiveCall call(*this, limits);
  const std::unique_ptr<StoreWriter> writer(grpc::internal::ClientWriterFactory<grpc::ByteBuffer>::Create(
      channel.get(), RpcMethod(kStoreMethod, nullptr, RpcMethod::CLIENT_STREAMING), &call.context(), &response));
  absl::Status source_status;
  for (uint32_t index = 0;; ++index) {
    absl::StatusOr<std::optional<OutgoingContainer>> container = source.Next();
    source_status = container.status();
    if (!container.ok() || !container->has_value()) break;
    if (!SendContainer(writer.get(), **container, index, call).ok()) break;
  }
  if (source_status.ok()) {
    writer->WritesDone();
  } else {
    call.context().TryCancel();
  }
  const absl::Status status = call.Translate(writer->Finish());
  return source_status.ok() ? status : source_status;
}

absl::Status GrpcTransport::PutObject(const v1::PutObjectBegin& begin, ByteSpan bytes, const CallLimits& limits,
                                      v1::PutObjectResponse& response) {
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, Connect(limits));
  ActiveCall call(*this, limits);
  const std::unique_ptr<grpc::ClientWriter<v1::PutObjectFrame>> writer(
      grpc::internal::ClientWriterFactory<v1::PutObjectFrame>::Create(
          channel.get(), RpcMethod(kPutObjectMethod, nullptr, RpcMethod::CLIENT_STREAMING), &call.context(),
          &response));
  v1::PutObjectFrame frame;
  *frame.mutable_begin() = begin;
  for (uint64_t offset = 0; offset < bytes.size(); offset += kMaxFrameDataBytes) {
    const ByteSpan data = bytes.subspan(offset, std::min<uint64_t>(kMaxFrameDataBytes, bytes.size() - offset));
    frame.set_data(data.data(), data.size());
    if (!writer->Write(frame)) break;  // the call is over: Finish says why
    call.Heard();
    frame.clear_begin();
  }
  writer->WritesDone();
  return call.Translate(writer->Finish());
}

absl::Status GrpcTransport::GetObject(const v1::GetObjectRequest& request, const CallLimits& limits,
                                      std::vector<uint8_t>& bytes) {
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, Connect(limits));
  ActiveCall call(*this, limits);
  const std::unique_ptr<grpc::ClientReader<v1::GetObjectFrame>> reader(
      grpc::internal::ClientReaderFactory<v1::GetObjectFrame>::Create(
          channel.get(), RpcMethod(kGetObjectMethod, nullptr, RpcMethod::SERVER_STREAMING), &call.context(), request));
  bytes.clear();
  std::optional<uint64_t> announced_bytes;
  absl::Status protocol;
  v1::GetObjectFrame frame;
  while (protocol.ok() && reader->Read(&frame)) {
    call.Heard();
    if (!announced_bytes.has_value()) {
      announced_bytes = frame.object().object_bytes();
      if (*announced_bytes > kMaxCalibrationBytes) {
        protocol = DataLoss("the server announces an object of ", *announced_bytes, " bytes");
        break;
      }
      bytes.reserve(*announced_bytes);
    }
    if (frame.data().size() > *announced_bytes - bytes.size()) {
      protocol = DataLoss("the server sends more than the ", *announced_bytes, " bytes it announced of an object");
      break;
    }
    bytes.insert(bytes.end(), frame.data().begin(), frame.data().end());
  }
  if (!protocol.ok()) call.context().TryCancel();
  const grpc::Status status = reader->Finish();
  if (!protocol.ok()) return protocol;
  KDN_RETURN_IF_ERROR(call.Translate(status));
  if (announced_bytes == bytes.size()) return absl::OkStatus();
  return DataLoss("object stream: ended after ", bytes.size(), " of ", announced_bytes.value_or(0), " bytes");
}

}  // namespace kdn
