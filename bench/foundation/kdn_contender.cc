// KDN through its client library, against a kdnd process.
//
//   bench_kdn ENDPOINT SERVER_PID    contender (see bench/common/contender.h); mode: lockstep
//
// Operations:
//   retrieve       containers of raw KV, every byte verified, into a contiguous buffer: the baselines' task
//   store          the same containers to the server, which verifies them and writes them to its store
//   load-PROFILE   Client::Retrieve of one chunk into a KvView, stored as PROFILE (raw or lossless): fetched, verified,
//                  decoded, scattered. Payload is decoded KV.
//   save-PROFILE   Client::Store of one chunk from a KvView. Payload is KV before encoding.
// `in_flight` callers, each waiting for its own call, share as many connections.
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench/common/contender.h"
#include "bench/common/measure.h"
#include "bench/common/pool.h"
#include "bench/foundation/container_rename.h"
#include "bench/foundation/synthetic_kv.h"
#include "client/kdn/client.h"

namespace kdn::bench {
namespace {

constexpr uint64_t kKvSeed = 7;
constexpr uint64_t kBufferSeed = 8;
constexpr uint64_t kBufferAlignment = 4096;
constexpr uint64_t kFirstStoredChunk = uint64_t{1} << 32;  // numbers below are chunks that are retrieved
constexpr char kStoreDocument[] = "benchmark store";
constexpr int64_t kAdminTimeoutMs = 60'000;
// Measuring goes on where a server is starved of CPU by other work; an engine would rather give up.
constexpr int64_t kDeadAfterMs = 10'000;

void Check(const absl::Status& status, const char* what) {
  if (!status.ok()) Fail(std::string(what) + ": " + status.ToString());
}

// All objects of one size: a model whose chunks have it, and the chunks that are retrieved.
struct Objects {
  uint64_t kv_bytes = 0;
  ModelHandle model;
  uint64_t container_bytes = 0;       // of a raw chunk
  std::vector<Digest> raw_digests;    // of the chunks kept as containers of raw KV
  std::vector<uint8_t> raw_template;  // one of these containers
};

class KdnContender : public Contender {
 public:
  explicit KdnContender(std::string endpoint) : endpoint_(std::move(endpoint)) {
    FillWithSyntheticKv(kKvSeed, kv_.Slot(0, kPoolBytes), kPoolBytes);
  }

  void Prepare(const Cell& cell) override {
    if (cell.mode != "lockstep") Fail("bench_kdn has no mode " + cell.mode);
    Objects& objects = ObjectsOf(cell);
    if (cell.operation == "retrieve") {
      VerifyRetrieve(cell, objects);
    } else if (cell.operation.starts_with("load-")) {
      VerifyLoad(cell, objects);
    }
  }

  // Every round finds the same server: what earlier stores left is deleted, what is retrieved lies in its RAM tier.
  void Settle(const Cell& cell) override {
    Admin& admin = ClientFor(cell).admin();
    DeleteTarget target;
    target.document = kStoreDocument;
    Check(admin.Delete(target, DeleteMode::kDelete, kAdminTimeoutMs).status(), "delete");
    Check(admin.Compact(kAdminTimeoutMs).status(), "compact");
    Objects& objects = ObjectsOf(cell);
    if (cell.operation == "store") {
      FillWithContainers(objects);
    } else if (cell.operation == "retrieve") {
      for (uint64_t number = 0; number < objects.raw_digests.size(); ++number) Retrieve(cell, objects, number);
    } else if (cell.operation.starts_with("load-")) {
      for (uint64_t number = 0; number < Count(objects); ++number) Load(cell, objects, number);
    }
  }

  uint64_t Run(const Cell& cell, Clock::time_point deadline) override {
    Objects& objects = ObjectsOf(cell);
    return RepeatUntil(deadline, cell.in_flight, [&](int) {
      const uint64_t number = kv_.Next();
      if (cell.operation == "retrieve") return Retrieve(cell, objects, number);
      if (cell.operation == "store") return Store(cell, objects, kFirstStoredChunk + number);
      if (cell.operation.starts_with("load-")) return Load(cell, objects, number);
      return Save(cell, objects, kFirstStoredChunk + number, kStoreDocument);
    });
  }

 private:
  static uint64_t Count(const Objects& objects) { return Pool::SlotCount(objects.kv_bytes); }

  static ProfileId ProfileOf(const Cell& cell) {
    const auto profile = ParseProfile(std::string_view(cell.operation).substr(cell.operation.find('-') + 1));
    if (!profile) Fail("bench_kdn has no " + cell.operation);
    return *profile;
  }

  // Chunks kept as raw and as lossless are different chunks: the server keeps the first coding of one.
  static std::vector<uint32_t> TokensOf(const Objects& objects, uint64_t number, ProfileId profile) {
    const uint64_t slot = number < kFirstStoredChunk ? number % Count(objects) : number;
    return TokensOfChunk(slot * (kMaxProfileId + 1) + static_cast<uint64_t>(profile));
  }

  Client& ClientFor(const Cell& cell) {
    std::unique_ptr<Client>& client = clients_[cell.in_flight];
    if (!client) {
      ClientOptions options;
      options.endpoint = endpoint_;
      options.dead_after_ms = kDeadAfterMs;
      options.channels = static_cast<uint32_t>(cell.in_flight);
      options.transfer_threads = static_cast<uint32_t>(cell.in_flight);
      auto connected = Client::Connect(options);
      Check(connected.status(), "connect");
      client = *std::move(connected);
    }
    return *client;
  }

  Objects& ObjectsOf(const Cell& cell) {
    Objects& objects = objects_[cell.object_bytes];
    if (!objects.model.valid()) Create(cell, objects);
    if (cell.operation.starts_with("load-") && !filled_[cell.object_bytes][ProfileOf(cell)]) {
      FillAs(cell, objects, ProfileOf(cell));
    }
    return objects;
  }

  // Registers the model and stores the raw chunks.
  void Create(const Cell& cell, Objects& objects) {
    objects.kv_bytes = cell.object_bytes;
    auto model = ClientFor(cell).RegisterModel(SpecOfChunkBytes(cell.object_bytes), kChunkTokens, "benchmark");
    Check(model.status(), "register");
    objects.model = *std::move(model);
    FillAs(cell, objects, ProfileId::kRaw);
    for (uint64_t number = 0; number < Count(objects); ++number) {
      objects.raw_digests.push_back(DigestOf(objects, number, ProfileId::kRaw));
    }
    auto container = ClientFor(cell).FetchContainer(objects.model, objects.raw_digests[0], {});
    Check(container.status(), "fetch");
    objects.raw_template = *std::move(container);
    objects.container_bytes = objects.raw_template.size();
  }

  void FillAs(const Cell& cell, Objects& objects, ProfileId profile) {
    Cell fill = cell;
    fill.operation = "save-" + std::string(ProfileName(profile));
    for (uint64_t number = 0; number < Count(objects); ++number) Save(fill, objects, number, "benchmark");
    filled_[cell.object_bytes][profile] = true;
  }

  static Digest DigestOf(const Objects& objects, uint64_t number, ProfileId profile) {
    auto chunks = Client::Chunks(objects.model, TokensOf(objects, number, profile), {});
    Check(chunks.status(), "chunks");
    return chunks->at(0).digest;
  }

  // Containers to be stored, one a slot; stores only rename them.
  void FillWithContainers(const Objects& objects) {
    const uint64_t slot_bytes = SlotBytes(objects);
    for (uint64_t slot = 0; slot < Pool::SlotCount(slot_bytes); ++slot) {
      std::memcpy(buffers_.Slot(slot, slot_bytes), objects.raw_template.data(), objects.container_bytes);
    }
  }

  uint64_t SlotBytes(const Objects& objects) const { return AlignUp(objects.container_bytes, kBufferAlignment); }

  uint64_t Retrieve(const Cell& cell, const Objects& objects, uint64_t number) {
    const uint64_t slot_bytes = SlotBytes(objects);
    const ContainerFetch fetch{objects.raw_digests[number % objects.raw_digests.size()],
                               {buffers_.Slot(number, slot_bytes), slot_bytes}};
    auto fetched = ClientFor(cell).FetchContainers(objects.model, {&fetch, 1}, {});
    Check(fetched.status(), "retrieve");
    const FetchedContainer& container = fetched->at(0);
    if (container.miss) Fail("retrieve missed: " + container.miss_message);
    return container.bytes;
  }

  uint64_t Store(const Cell& cell, const Objects& objects, uint64_t number) {
    const uint64_t slot_bytes = SlotBytes(objects);
    const MutableByteSpan container(buffers_.Slot(number, slot_bytes), objects.container_bytes);
    RenameContainer(container, DigestOf(objects, number, ProfileId::kRaw));
    PutOptions options;
    options.document = kStoreDocument;
    const ByteSpan put = container;
    auto results = ClientFor(cell).PutContainers(objects.model, {&put, 1}, options);
    Check(results.status(), "store");
    if (results->at(0).outcome != ChunkStoreOutcome::kStored) {
      Fail("store was not stored: " + results->at(0).status.ToString());
    }
    return objects.container_bytes;
  }

  uint64_t Load(const Cell& cell, const Objects& objects, uint64_t number) {
    const KvView view = ViewOfChunk(objects.model.spec(), buffers_.Slot(number, objects.kv_bytes));
    auto future =
        ClientFor(cell).Retrieve(objects.model, TokensOf(objects, number, ProfileOf(cell)), view, RetrieveOptions{});
    const auto& result = future.Wait();
    Check(result.status(), "load");
    if (result->tokens_loaded != kChunkTokens) Fail("load missed: " + result->transfer_status.ToString());
    return objects.kv_bytes;
  }

  uint64_t Save(const Cell& cell, const Objects& objects, uint64_t number, const char* document) {
    const KvView view = ViewOfChunk(objects.model.spec(), kv_.Slot(number, objects.kv_bytes));
    StoreOptions options;
    options.profile = ProfileOf(cell);
    options.document = document;
    auto future = ClientFor(cell).Store(objects.model, TokensOf(objects, number, *options.profile), view, options);
    const auto& result = future.Wait();
    Check(result.status(), "save");
    if (result->tokens_present != kChunkTokens) Fail("save was not stored: " + result->chunks.at(0).status.ToString());
    return objects.kv_bytes;
  }

  void VerifyRetrieve(const Cell& cell, const Objects& objects) {
    Retrieve(cell, objects, 0);
    if (std::memcmp(buffers_.Slot(0, SlotBytes(objects)), objects.raw_template.data(), objects.container_bytes) != 0) {
      Fail("a container came back changed");
    }
  }

  void VerifyLoad(const Cell& cell, const Objects& objects) {
    const uint64_t number = Count(objects) - 1;
    uint8_t* destination = buffers_.Slot(number, objects.kv_bytes);
    std::memset(destination, 0, objects.kv_bytes);
    Load(cell, objects, number);
    if (std::memcmp(destination, kv_.Slot(number, objects.kv_bytes), objects.kv_bytes) != 0) {
      Fail("KV came back changed by " + cell.operation);
    }
  }

  const std::string endpoint_;
  Pool kv_{kKvSeed};                                // source of stores
  Pool buffers_{kBufferSeed};                       // destinations, and containers to be stored
  std::map<int, std::unique_ptr<Client>> clients_;  // by operations in flight
  std::map<uint64_t, Objects> objects_;             // by KV bytes
  std::map<uint64_t, std::map<ProfileId, bool>> filled_;
};

}  // namespace
}  // namespace kdn::bench

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: bench_kdn ENDPOINT SERVER_PID\n");
    return 2;
  }
  kdn::bench::KdnContender contender(argv[1]);
  kdn::bench::ServeCells(contender, std::stoi(argv[2]));
  return 0;
}
