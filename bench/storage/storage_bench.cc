// One measurement of one value store per call, as a line of JSON; bench/harness/storage.py takes turns.
//
//   bench_storage KIND SYNC FOLDER fill OBJECT_BYTES IN_FLIGHT TOTAL_BYTES
//       puts TOTAL_BYTES, syncs, closes; keeps the locations in FOLDER.locations for `read`
//   bench_storage KIND SYNC FOLDER fill-until-killed OBJECT_BYTES IN_FLIGHT
//       prints "filling", then puts until SIGKILL
//   bench_storage KIND SYNC FOLDER read OBJECT_BYTES IN_FLIGHT MILLISECONDS
//       gets whole values at random places
//   bench_storage KIND SYNC FOLDER open
//       opens, then counts what Scan finds intact
//   bench_storage KIND SYNC FOLDER delete-half oldest|random OBJECT_BYTES TOTAL_BYTES
//       puts TOTAL_BYTES, marks half dead and frees space as eviction does, by whole groups: of the oldest half those
//       that hold nothing else; of a random half all, with what is still wanted put again first
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "bench/common/measure.h"
#include "bench/common/pool.h"
#include "bench/storage/open_store.h"

namespace kdn::bench {
namespace {

constexpr uint64_t kPoolSeed = 5;
constexpr size_t kMetadataBytes = 256;  // about what a chunk's record takes
constexpr int kCheckedValues = 8;

[[noreturn]] void FailOn(const absl::Status& status) { Fail(status.ToString()); }

void Check(const absl::Status& status) {
  if (!status.ok()) FailOn(status);
}

template <typename T>
T Check(absl::StatusOr<T> result) {
  if (!result.ok()) FailOn(result.status());
  return *std::move(result);
}

// A value with the number that says what it holds: slot `number` of the pool.
struct StoredValue {
  uint64_t number = 0;
  ValueLocation location;
};

struct Arguments {
  std::string kind;
  SyncMode sync;
  std::string folder;
  std::string action;
  std::vector<std::string> rest;

  uint64_t Number(size_t index) const {
    if (index >= rest.size()) Fail(action + " takes more arguments");
    return std::stoull(rest[index]);
  }
};

SyncMode ParseSync(const std::string& name) {
  if (name == "always") return SyncMode::kAlways;
  if (name == "batch") return SyncMode::kBatch;
  if (name == "none") return SyncMode::kNone;
  Fail("no sync mode " + name);
}

// Bytes this process has caused to be written to the block layer.
uint64_t WrittenBytes() {
  std::ifstream io("/proc/self/io");
  std::string name;
  uint64_t value = 0;
  while (io >> name >> value) {
    if (name == "write_bytes:") return value;
  }
  Fail("cannot read /proc/self/io");
}

// Disk blocks that the files below `folder` occupy, in bytes.
uint64_t OccupiedBytes(const std::string& folder) {
  uint64_t sum = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    struct stat info;
    if (stat(entry.path().c_str(), &info) == 0 && S_ISREG(info.st_mode)) {
      sum += static_cast<uint64_t>(info.st_blocks) * 512;
    }
  }
  return sum;
}

// Times, CPU and bytes written since construction.
class Meter {
 public:
  double Seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }
  double CpuSeconds() const { return bench::CpuSeconds(0) - cpu_begin_; }
  uint64_t Written() const { return WrittenBytes() - written_begin_; }

 private:
  Clock::time_point begin_ = Clock::now();
  double cpu_begin_ = bench::CpuSeconds(0);
  uint64_t written_begin_ = WrittenBytes();
};

void Print(const std::vector<std::pair<const char*, double>>& fields) {
  std::string line = "{";
  for (const auto& [name, value] : fields) {
    char text[96];
    std::snprintf(text, sizeof(text), "%s\"%s\": %.9g", line.size() > 1 ? ", " : "", name, value);
    line += text;
  }
  std::printf("%s}\n", line.c_str());
  std::fflush(stdout);
}

// Puts values of `object_bytes` from `workers` threads until `total_bytes` are in the store.
std::vector<StoredValue> PutAll(ValueStore& store, const Pool& pool, uint64_t object_bytes, int workers,
                                uint64_t total_bytes) {
  const uint64_t count = total_bytes / object_bytes;
  const std::vector<uint8_t> metadata(kMetadataBytes, 0x5a);
  std::atomic<uint64_t> next{0};
  std::mutex mutex;
  std::vector<StoredValue> values;
  RepeatUntil(Clock::time_point::min(), workers, [&](int) {
    for (uint64_t number; (number = next.fetch_add(1)) < count;) {
      const ByteSpan payload(pool.Slot(number, object_bytes), object_bytes);
      const ValueLocation location = Check(store.Put(metadata, payload));
      std::lock_guard lock(mutex);
      values.push_back({number, location});
    }
    return uint64_t{0};
  });
  return values;
}

void SaveLocations(const std::string& folder, const std::vector<StoredValue>& values) {
  std::ofstream out(folder + ".locations");
  for (const StoredValue& value : values) {
    out << value.number << ' ' << value.location.group << ' ' << value.location.offset << ' ' << value.location.length
        << '\n';
  }
  if (!out.flush()) Fail("cannot write " + folder + ".locations");
}

std::vector<StoredValue> LoadLocations(const std::string& folder) {
  std::ifstream in(folder + ".locations");
  std::vector<StoredValue> values;
  StoredValue value;
  while (in >> value.number >> value.location.group >> value.location.offset >> value.location.length) {
    values.push_back(value);
  }
  if (values.empty()) Fail("no values in " + folder + ".locations");
  return values;
}

SharedBytes GetWhole(ValueStore& store, const ValueLocation& location) {
  return Check(store.Get(location, {0, location.length}));
}

void Fill(const Arguments& arguments) {
  const uint64_t object_bytes = arguments.Number(0);
  const Pool pool(kPoolSeed);
  auto store = OpenStore(arguments.kind, arguments.sync, arguments.folder);
  const Meter meter;
  const std::vector<StoredValue> values =
      PutAll(*store, pool, object_bytes, static_cast<int>(arguments.Number(1)), arguments.Number(2));
  const double put_seconds = meter.Seconds();
  Check(store->Sync(0));
  const double seconds = meter.Seconds();
  // What the store still has to write in the background counts in CPU and bytes.
  Check(store->Close());
  Print({{"payload_bytes", static_cast<double>(values.size() * object_bytes)},
         {"seconds", seconds},
         {"put_seconds", put_seconds},
         {"cpu_s", meter.CpuSeconds()},
         {"written_bytes", static_cast<double>(meter.Written())}});
  SaveLocations(arguments.folder, values);
}

void FillUntilKilled(const Arguments& arguments) {
  const Pool pool(kPoolSeed);
  auto store = OpenStore(arguments.kind, arguments.sync, arguments.folder);
  std::printf("filling\n");
  std::fflush(stdout);
  PutAll(*store, pool, arguments.Number(0), static_cast<int>(arguments.Number(1)), UINT64_MAX);
}

void Read(const Arguments& arguments) {
  const uint64_t object_bytes = arguments.Number(0);
  const int workers = static_cast<int>(arguments.Number(1));
  const std::vector<StoredValue> values = LoadLocations(arguments.folder);
  auto store = OpenStore(arguments.kind, arguments.sync, arguments.folder);
  std::mt19937_64 random(kPoolSeed);
  {
    const Pool pool(kPoolSeed);
    for (int i = 0; i < kCheckedValues; ++i) {
      const StoredValue& value = values[random() % values.size()];
      const SharedBytes bytes = GetWhole(*store, value.location);
      if (std::memcmp(bytes.data(), pool.Slot(value.number, object_bytes), object_bytes) != 0) {
        Fail(arguments.kind + " returned other bytes than were put");
      }
    }
  }
  std::vector<std::mt19937_64> randoms;
  for (int worker = 0; worker < workers; ++worker) randoms.emplace_back(random());
  const Meter meter;
  const uint64_t payload_bytes =
      RepeatUntil(Clock::now() + std::chrono::milliseconds(arguments.Number(2)), workers, [&](int worker) {
        const ValueLocation& location = values[randoms[worker]() % values.size()].location;
        return static_cast<uint64_t>(GetWhole(*store, location).size());
      });
  Print({{"payload_bytes", static_cast<double>(payload_bytes)},
         {"seconds", meter.Seconds()},
         {"cpu_s", meter.CpuSeconds()}});
}

void Open(const Arguments& arguments) {
  const Meter meter;
  auto store = OpenStore(arguments.kind, arguments.sync, arguments.folder);
  const double seconds = meter.Seconds();
  uint64_t intact = 0;
  uint64_t damaged = 0;
  for (const ValueGroup& group : store->Groups()) {
    Check(store->Scan(group.id, {.verify_payload = true},
                      [&](const ScannedValue& value) { ++(value.status.ok() ? intact : damaged); }));
  }
  Print({{"seconds", seconds},
         {"intact_values", static_cast<double>(intact)},
         {"damaged_values", static_cast<double>(damaged)}});
}

enum class MixedGroups { kKeep, kPutAgain };

// Frees the space of `dead`. Groups that also hold living values are left as they are, or dropped once the living ones
// have been put again.
void Reclaim(ValueStore& store, const std::vector<StoredValue>& values, const std::set<uint64_t>& dead,
             MixedGroups mixed) {
  const std::vector<uint8_t> metadata(kMetadataBytes, 0x5a);
  Check(store.SealActive());
  std::map<uint64_t, std::vector<StoredValue>> living;  // by group
  std::set<uint64_t> groups_with_dead;
  for (const StoredValue& value : values) {
    if (dead.contains(value.number)) {
      groups_with_dead.insert(value.location.group);
    } else {
      living[value.location.group].push_back(value);
    }
  }
  for (const uint64_t group : groups_with_dead) {
    if (mixed == MixedGroups::kKeep && !living[group].empty()) continue;
    for (const StoredValue& value : living[group]) {
      Check(store.Put(metadata, GetWhole(store, value.location).span()).status());
    }
    Check(store.DropGroup(group));
  }
  Check(store.Sync(0));
}

void DeleteHalf(const Arguments& arguments) {
  if (arguments.rest.size() != 3) Fail("delete-half oldest|random OBJECT_BYTES TOTAL_BYTES");
  const Pool pool(kPoolSeed);
  auto store = OpenStore(arguments.kind, arguments.sync, arguments.folder);
  std::vector<StoredValue> values = PutAll(*store, pool, arguments.Number(1), 1, arguments.Number(2));
  Check(store->Sync(0));
  const uint64_t occupied_before = OccupiedBytes(arguments.folder);
  std::vector<StoredValue> doomed = values;
  const bool random = arguments.rest[0] == "random";
  if (random) std::shuffle(doomed.begin(), doomed.end(), std::mt19937_64(kPoolSeed));
  doomed.resize(values.size() / 2);
  std::set<uint64_t> dead;
  const Meter meter;
  for (const StoredValue& value : doomed) {
    store->MarkDead(value.location);
    dead.insert(value.number);
  }
  Reclaim(*store, values, dead, random ? MixedGroups::kPutAgain : MixedGroups::kKeep);
  const double seconds = meter.Seconds();
  Check(store->Close());
  Print({{"payload_bytes", static_cast<double>(values.size() * arguments.Number(1))},
         {"seconds", seconds},
         {"written_bytes", static_cast<double>(meter.Written())},
         {"occupied_before", static_cast<double>(occupied_before)},
         {"occupied_after", static_cast<double>(OccupiedBytes(arguments.folder))}});
}

}  // namespace
}  // namespace kdn::bench

int main(int argc, char** argv) {
  using namespace kdn::bench;
  if (argc < 5) {
    std::fprintf(stderr, "usage: bench_storage KIND SYNC FOLDER ACTION ... (see the head of storage_bench.cc)\n");
    return 2;
  }
  const Arguments arguments{argv[1], ParseSync(argv[2]), argv[3], argv[4], {argv + 5, argv + argc}};
  if (arguments.action == "fill") {
    Fill(arguments);
  } else if (arguments.action == "fill-until-killed") {
    FillUntilKilled(arguments);
  } else if (arguments.action == "read") {
    Read(arguments);
  } else if (arguments.action == "open") {
    Open(arguments);
  } else if (arguments.action == "delete-half") {
    DeleteHalf(arguments);
  } else {
    Fail("no action " + arguments.action);
  }
  return 0;
}
