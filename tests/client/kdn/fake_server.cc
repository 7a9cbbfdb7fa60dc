#include "tests/client/kdn/fake_server.h"

#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <chrono>

#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "kernels/chunk/chunker.h"

namespace kdn::testing {
namespace {

grpc::Status Error(grpc::StatusCode code, const std::string& message) { return grpc::Status(code, message); }

}  // namespace

FakeServer::FakeServer(const std::string& address) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(static_cast<v1::Kdn::Service*>(this));
  builder.RegisterService(static_cast<v1::Admin::Service*>(this));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  server_ = builder.BuildAndStart();
  endpoint_ = StrCat("127.0.0.1:", port);
}

FakeServer::~FakeServer() { Stop(); }

void FakeServer::Stop() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

void FakeServer::Falsify(std::function<void(Frames&)> falsify) {
  absl::MutexLock lock(&mutex_);
  falsify_ = std::move(falsify);
}

void FakeServer::FalsifyText(std::function<void(v1::LookupTextResponse&)> falsify) {
  absl::MutexLock lock(&mutex_);
  falsify_text_ = std::move(falsify);
}

void FakeServer::BeforeFrame(std::function<bool(size_t, grpc::ServerContext*)> hook) {
  absl::MutexLock lock(&mutex_);
  before_frame_ = std::move(hook);
}

void FakeServer::BeforeCall(std::function<void(const std::string&)> hook) {
  absl::MutexLock lock(&mutex_);
  before_call_ = std::move(hook);
}

size_t FakeServer::num_chunks() {
  absl::MutexLock lock(&mutex_);
  return chunks_.size();
}

std::vector<FakeServer::Stored> FakeServer::StoredOf(const std::string& digest) {
  absl::MutexLock lock(&mutex_);
  return chunks_[digest];
}

void FakeServer::Remove(const std::string& digest) {
  absl::MutexLock lock(&mutex_);
  chunks_.erase(digest);
}

uint64_t FakeServer::store_calls() {
  absl::MutexLock lock(&mutex_);
  return store_calls_;
}

void FakeServer::Called(const std::string& method) {
  std::function<void(const std::string&)> hook;
  {
    absl::MutexLock lock(&mutex_);
    hook = before_call_;
  }
  if (hook) hook(method);
}

FakeServer::Model FakeServer::ModelOf(const std::string& fingerprint) {
  absl::MutexLock lock(&mutex_);
  return models_.at(fingerprint);
}

std::map<uint32_t, uint32_t> FakeServer::CellsOf(const std::string& digest, const CellMap& map) {
  std::map<uint32_t, uint32_t> cells;
  for (const Stored& stored : StoredOf(digest)) {
    const ContainerHeader header = *ParseContainerHeader(AsBytes(stored.bytes));
    for (const uint32_t cell : header.cells.ToVector()) {
      const uint32_t first_row = FirstRowOfCell(header, map, cell);
      const auto [at, inserted] = cells.emplace(cell, first_row);
      if (!inserted) at->second = std::min(at->second, first_row);
    }
  }
  return cells;
}

grpc::Status FakeServer::RegisterModel(grpc::ServerContext*, const v1::RegisterModelRequest* request,
                                       v1::RegisterModelResponse* response) {
  const absl::StatusOr<ModelSpec> spec = DecodeModelSpec(AsBytes(request->canonical_spec()));
  if (!spec.ok()) return Error(grpc::StatusCode::INVALID_ARGUMENT, "bad spec");
  const std::string fingerprint(FingerprintOf(*spec).view());
  absl::MutexLock lock(&mutex_);
  Model& model = models_[fingerprint];
  response->set_created(model.chunk_tokens == 0);
  if (model.chunk_tokens == 0) {
    model = {*spec, request->chunk_tokens() == 0 ? kDefaultChunkTokens : request->chunk_tokens()};
  }
  response->set_fingerprint(fingerprint);
  response->set_chunk_tokens(model.chunk_tokens);
  if (request->chunk_tokens() != 0 && request->chunk_tokens() != model.chunk_tokens) {
    return Error(grpc::StatusCode::FAILED_PRECONDITION, "another chunk length is pinned");
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::Lookup(grpc::ServerContext*, const v1::LookupRequest* request, v1::LookupResponse* response) {
  Called("Lookup");
  const Model model = ModelOf(request->fingerprint());
  const CellMap map(model.spec, model.chunk_tokens);
  const CellSet wanted = *CellSet::FromBytes(AsBytes(request->cells().bitmap()), map.num_cells());
  const int n = request->chunk_digests_size();
  const auto tokens_of = [&](int i) {
    return i + 1 == n && request->last_chunk_tokens() != 0 ? request->last_chunk_tokens() : model.chunk_tokens;
  };
  const auto has = [&](int i, uint64_t prefix_end) {
    const auto cells = CellsOf(request->chunk_digests(i), map);
    for (const uint32_t cell : wanted.ToVector()) {
      const LayerBand& band = map.BandOfCell(cell);
      const uint32_t needed =
          FirstNeededRow(band.attention, band.window, prefix_end, uint64_t{model.chunk_tokens} * i, tokens_of(i));
      if (needed >= tokens_of(i)) continue;
      const auto found = cells.find(cell);
      if (found == cells.end() || found->second > needed) return false;
    }
    return true;
  };
  if (request->mode() == v1::LookupRequest::SEGMENTS) {
    std::string present((n + 7) / 8, '\0');
    for (int i = 0; i < n; ++i) {
      if (!has(i, uint64_t{model.chunk_tokens} * i)) continue;
      present[i / 8] = static_cast<char>(present[i / 8] | 1 << (i % 8));
      response->set_hit_chunks(response->hit_chunks() + 1);
    }
    response->set_present(present);
    return grpc::Status::OK;
  }
  for (int hit = n; hit > 0; --hit) {
    const uint64_t end = uint64_t{model.chunk_tokens} * (hit - 1) + tokens_of(hit - 1);
    bool all = true;
    for (int i = 0; i < hit && all; ++i) all = has(i, end);
    if (!all) continue;
    response->set_hit_chunks(hit);
    response->set_hit_tokens(end);
    break;
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::FindMissing(grpc::ServerContext*, const v1::FindMissingRequest* request,
                                     v1::FindMissingResponse* response) {
  Called("FindMissing");
  const Model model = ModelOf(request->fingerprint());
  const CellMap map(model.spec, model.chunk_tokens);
  for (const v1::ChunkOffer& offer : request->chunks()) {
    const CellSet offered = *CellSet::FromBytes(AsBytes(offer.cells().bitmap()), map.num_cells());
    std::map<uint32_t, uint32_t> first_rows;
    for (const v1::CellRows& rows : offer.partial()) first_rows[rows.cell()] = rows.first_row();
    const auto stored = CellsOf(offer.chunk_digest(), map);
    CellSet missing(map.num_cells());
    for (const uint32_t cell : offered.ToVector()) {
      const auto found = stored.find(cell);
      if (found == stored.end() || found->second > first_rows[cell]) missing.Insert(cell);
    }
    v1::Cells& out = *response->add_missing();
    if (missing.Empty()) continue;
    const auto bitmap = missing.ToBytes();
    out.set_bitmap(bitmap.data(), bitmap.size());
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::Store(grpc::ServerContext*, grpc::ServerReader<v1::StoreFrame>* reader,
                               v1::StoreResponse* response) {
  Called("Store");
  {
    absl::MutexLock lock(&mutex_);
    ++store_calls_;
  }
  v1::StoreFrame frame;
  Stored current;
  uint32_t next_index = 0;
  while (reader->Read(&frame)) {
    if (frame.has_begin()) {
      if (frame.chunk_index() != next_index++) return Error(grpc::StatusCode::INVALID_ARGUMENT, "chunk index");
      current = {"", frame.begin()};
    }
    if (frame.offset() != current.bytes.size()) return Error(grpc::StatusCode::INVALID_ARGUMENT, "offset");
    if (frame.data().size() > (1u << 20)) return Error(grpc::StatusCode::INVALID_ARGUMENT, "frame too large");
    if (frame.crc32c() != Crc32c(AsBytes(frame.data()))) return Error(grpc::StatusCode::DATA_LOSS, "crc");
    current.bytes += frame.data();
    if (current.bytes.size() < current.begin.container_bytes()) continue;
    v1::StoreResult& result = *response->add_results();
    result.set_chunk_digest(current.begin.chunk_digest());
    const absl::StatusOr<ContainerHeader> header = ParseContainerHeader(AsBytes(current.bytes));
    if (!header.ok() || header->chunk_digest.view() != current.begin.chunk_digest()) {
      result.set_outcome(v1::REJECTED);
      result.set_code(grpc::StatusCode::INVALID_ARGUMENT);
      result.set_message("bad container");
      continue;
    }
    result.set_outcome(v1::STORED);
    result.set_stored_bytes(current.bytes.size());
    absl::MutexLock lock(&mutex_);
    chunks_[current.begin.chunk_digest()].push_back(current);
  }
  return grpc::Status::OK;
}

FakeServer::Frames FakeServer::FramesOf(const v1::RetrieveRequest& request) {
  const Model model = ModelOf(request.fingerprint());
  const CellMap map(model.spec, model.chunk_tokens);
  CellSet wanted = CellSet::All(map.num_cells());
  if (!request.cells().bitmap().empty()) {
    wanted = *CellSet::FromBytes(AsBytes(request.cells().bitmap()), map.num_cells());
  }
  Frames frames;
  for (int c = 0; c < request.chunks_size(); ++c) {
    const std::vector<Stored> parts = StoredOf(request.chunks(c).chunk_digest());
    if (parts.empty()) {
      v1::RetrieveFrame& miss = frames.emplace_back();
      miss.set_chunk_index(c);
      miss.set_miss(v1::ABSENT);
      miss.set_miss_message("not stored");
      continue;
    }
    CellSet left = wanted;
    uint32_t part_index = 0;
    for (const Stored& part : parts) {
      const ContainerHeader header = *ParseContainerHeader(AsBytes(part.bytes));
      CellSet take(map.num_cells());
      for (const uint32_t cell : header.cells.ToVector()) {
        if (!left.Contains(cell)) continue;
        take.Insert(cell);
        left.Erase(cell);
      }
      if (take.Empty()) continue;
      // [offset, length) of what is sent: the header, then the sections of the cells taken.
      std::vector<std::pair<uint64_t, uint64_t>> ranges = {{0, header.header_bytes}};
      for (const SectionEntry& section : header.sections) {
        if (!CellsOfSection(section, map).Intersects(take)) continue;
        const uint64_t at = header.header_bytes + section.offset;
        if (ranges.back().first + ranges.back().second == at) {
          ranges.back().second += section.length;
        } else {
          ranges.emplace_back(at, section.length);
        }
      }
      uint64_t sent = 0;
      for (const auto& range : ranges) sent += range.second;
      const uint64_t frame_bytes = request.max_frame_bytes() == 0 ? 65536 : request.max_frame_bytes();
      bool first = true;
      for (const auto& [begin, length] : ranges) {
        for (uint64_t at = 0; at < length; at += frame_bytes) {
          v1::RetrieveFrame& frame = frames.emplace_back();
          frame.set_chunk_index(c);
          frame.set_part(part_index);
          frame.set_offset(begin + at);
          frame.set_data(part.bytes.substr(begin + at, std::min(frame_bytes, length - at)));
          frame.set_crc32c(Crc32c(AsBytes(frame.data())));
          if (!first) continue;
          first = false;
          v1::PartBegin& part_begin = *frame.mutable_part_begin();
          part_begin.set_container_bytes(part.bytes.size());
          part_begin.set_header_bytes(header.header_bytes);
          part_begin.set_sent_bytes(sent);
          part_begin.set_tier("ram");
          const auto bitmap = take.ToBytes();
          part_begin.mutable_cells()->set_bitmap(bitmap.data(), bitmap.size());
        }
      }
      ++part_index;
    }
    v1::RetrieveFrame& end = frames.emplace_back();
    end.set_chunk_index(c);
    end.set_chunk_end(true);
  }
  return frames;
}

grpc::Status FakeServer::Retrieve(grpc::ServerContext* context, const v1::RetrieveRequest* request,
                                  grpc::ServerWriter<v1::RetrieveFrame>* writer) {
  Called("Retrieve");
  Frames frames = FramesOf(*request);
  std::function<void(Frames&)> falsify;
  std::function<bool(size_t, grpc::ServerContext*)> before_frame;
  {
    absl::MutexLock lock(&mutex_);
    falsify = falsify_;
    before_frame = before_frame_;
  }
  if (falsify) falsify(frames);
  for (size_t i = 0; i < frames.size(); ++i) {
    if (before_frame && !before_frame(i, context)) return Error(grpc::StatusCode::UNAVAILABLE, "broken off");
    if (!writer->Write(frames[i])) return Error(grpc::StatusCode::CANCELLED, "the client went away");
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::StoreText(grpc::ServerContext*, const v1::StoreTextRequest* request,
                                   v1::StoreTextResponse* response) {
  absl::MutexLock lock(&mutex_);
  texts_[request->fingerprint() + request->text_digest()] = *request;
  response->set_num_chunks(1);
  return grpc::Status::OK;
}

grpc::Status FakeServer::LookupText(grpc::ServerContext*, const v1::LookupTextRequest* request,
                                    v1::LookupTextResponse* response) {
  const Model model = ModelOf(request->fingerprint());
  absl::MutexLock lock(&mutex_);
  const auto found = texts_.find(request->fingerprint() + request->text_digest());
  if (found == texts_.end()) return Error(grpc::StatusCode::NOT_FOUND, "unknown text");
  const v1::StoreTextRequest& text = found->second;
  *response->mutable_token_ids() = text.token_ids();
  *response->mutable_extra_keys() = text.extra_keys();
  response->set_document(text.document());
  ChunkingContext chunking{FingerprintOf(model.spec), model.chunk_tokens, {}};
  chunking.extra_keys.assign(text.extra_keys().begin(), text.extra_keys().end());
  const std::vector<uint32_t> ids(text.token_ids().begin(), text.token_ids().end());
  for (const ChunkId& chunk : PrefixChunks(chunking, ids)) {
    response->add_chunk_digests(std::string(chunk.digest.view()));
  }
  if (falsify_text_) falsify_text_(*response);
  return grpc::Status::OK;
}

grpc::Status FakeServer::Status(grpc::ServerContext*, const v1::StatusRequest*, v1::StatusResponse* response) {
  response->set_version("1.2.3");
  response->set_started_ms(77);
  response->set_state("serving");
  return grpc::Status::OK;
}

grpc::Status FakeServer::ListChunks(grpc::ServerContext*, const v1::ListChunksRequest* request,
                                    v1::ListChunksResponse* response) {
  absl::MutexLock lock(&mutex_);
  for (const auto& [digest, stored] : chunks_) {
    if (request->limit() != 0 && static_cast<uint32_t>(response->chunks_size()) >= request->limit()) break;
    v1::ChunkSummary& summary = *response->add_chunks();
    summary.set_chunk_digest(digest);
    summary.set_fingerprint(stored[0].begin.fingerprint());
    summary.add_documents(stored[0].begin.document());
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::ListModels(grpc::ServerContext*, const v1::ListModelsRequest* request,
                                    v1::ListModelsResponse* response) {
  absl::MutexLock lock(&mutex_);
  const std::optional<Digest> after = Digest::FromHex(request->page_token());
  const auto model = after.has_value() ? models_.upper_bound(std::string(after->view())) : models_.begin();
  if (model == models_.end()) return grpc::Status::OK;
  response->add_models()->set_fingerprint(model->first);
  if (std::next(model) != models_.end()) response->set_next_page_token(Hex(AsBytes(model->first)));
  return grpc::Status::OK;
}

grpc::Status FakeServer::Delete(grpc::ServerContext*, const v1::DeleteRequest* request, v1::DeleteResponse* response) {
  absl::MutexLock lock(&mutex_);
  const size_t there = chunks_.count(request->chunk_digest());
  response->set_chunks(there);
  if (!request->dry_run()) chunks_.erase(request->chunk_digest());
  return grpc::Status::OK;
}

}  // namespace kdn::testing
